#include "lorikeet/train/loss_guard.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace lorikeet {
namespace {

using Verdict = LossGuard::Verdict;

LossGuard make_guard(double spike_threshold = 6, int64_t max_skipped_steps = 3) {
  SafetyConfig config;
  config.spike_threshold = spike_threshold;
  config.max_skipped_steps = max_skipped_steps;
  return LossGuard(config);
}

/// Feeds a falling loss with noise; returns the number of spikes called.
int feed(LossGuard& guard, int steps, double level, double noise, unsigned seed = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal(0, noise);
  int spikes = 0;
  for (int i = 0; i < steps; ++i) {
    spikes += guard.judge(level + normal(random), true) != Verdict::kFine ? 1 : 0;
  }
  return spikes;
}

TEST(LossGuard, MeanAndDeviationOfTheFirstStepsAreThePlainOnes) {
  LossGuard guard = make_guard();
  for (const double loss : {1.0, 2.0, 3.0, 6.0}) guard.judge(loss, true);
  EXPECT_NEAR(guard.mean(), 3.0, 1e-12);
  EXPECT_NEAR(guard.deviation(), std::sqrt((4 + 1 + 0 + 9) / 4.0), 1e-12);
}

TEST(LossGuard, NoiseAndAFallingLossAreNoSpikes) {
  LossGuard guard = make_guard();
  EXPECT_EQ(feed(guard, 5000, 3.0, 0.1), 0);
  LossGuard falling = make_guard();
  std::mt19937 random(2);
  std::normal_distribution<double> normal(0, 0.05);
  for (int i = 0; i < 3000; ++i) {
    const double loss = 2 + 8 * std::exp(-i / 300.0) + normal(random);
    EXPECT_EQ(falling.judge(loss, true), Verdict::kFine) << i;
  }
}

TEST(LossGuard, AJumpAboveTheThresholdIsASpikeAndOneBelowItIsNot) {
  for (const double jump : {4.0, 8.0}) {
    LossGuard guard = make_guard();
    feed(guard, 500, 3.0, 0.1);
    const double loss = guard.mean() + jump * guard.deviation();
    EXPECT_EQ(guard.judge(loss, true), jump > 6 ? Verdict::kSpike : Verdict::kFine) << jump;
  }
}

TEST(LossGuard, AFallIsNoSpikeHoweverDeep) {
  LossGuard guard = make_guard();
  feed(guard, 500, 3.0, 0.1);
  EXPECT_EQ(guard.judge(0.5, true), Verdict::kFine);
}

TEST(LossGuard, CallsNothingASpikeWithoutHistory) {
  LossGuard guard = make_guard();
  feed(guard, 19, 3.0, 0.1);
  EXPECT_EQ(guard.judge(30, true), Verdict::kFine);
  LossGuard with_history = make_guard();
  feed(with_history, 20, 3.0, 0.1);
  EXPECT_EQ(with_history.judge(30, true), Verdict::kSpike);
}

TEST(LossGuard, AFlatCurveKeepsASmallestSpread) {
  LossGuard guard = make_guard();
  feed(guard, 200, 3.0, 0);
  EXPECT_EQ(guard.judge(3.05, true), Verdict::kFine) << "under 6 times 0.01";
  EXPECT_EQ(guard.judge(3.10, true), Verdict::kSpike);
}

TEST(LossGuard, OneSpikeDoesNotHideTheNextAndAHighPlateauBecomesNormal) {
  LossGuard guard = make_guard();
  feed(guard, 500, 3.0, 0.1);
  EXPECT_EQ(guard.judge(9, true), Verdict::kSpike);
  EXPECT_EQ(guard.judge(9, true), Verdict::kSpike);
  const int spikes = feed(guard, 1000, 9.0, 0.1);
  EXPECT_LT(spikes, 200);
  EXPECT_NEAR(guard.mean(), 9, 0.2);
  EXPECT_EQ(feed(guard, 500, 9.0, 0.1, 3), 0);
}

TEST(LossGuard, AThresholdOfZeroIsOff) {
  LossGuard guard = make_guard(0);
  feed(guard, 500, 3.0, 0.1);
  EXPECT_EQ(guard.judge(1e6, true), Verdict::kFine);
}

TEST(LossGuard, CountsStepsThatAreNotFiniteAndDivergesAfterTooManyInARow) {
  LossGuard guard = make_guard();
  guard.judge(3, true);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(guard.judge(NAN, false), Verdict::kSkipped);
  EXPECT_EQ(guard.judge(3, true), Verdict::kFine) << "a good step begins the count anew";
  for (int i = 0; i < 3; ++i) EXPECT_EQ(guard.judge(INFINITY, false), Verdict::kSkipped);
  EXPECT_EQ(guard.judge(NAN, false), Verdict::kDiverged);
  EXPECT_EQ(guard.skipped_in_total(), 7);
  EXPECT_EQ(guard.mean(), 3) << "they are no part of the mean";
}

TEST(LossGuard, GoesOnFromItsStateToTheLastBit) {
  LossGuard guard = make_guard();
  feed(guard, 100, 3.0, 0.1);
  guard.judge(NAN, false);
  LossGuard copy = make_guard();
  copy.load_state(guard.state());
  EXPECT_EQ(copy.skipped_in_total(), 1);
  for (LossGuard* one : {&guard, &copy}) {
    feed(*one, 50, 3.1, 0.2, 7);
    EXPECT_EQ(one->judge(NAN, false), Verdict::kSkipped);
    EXPECT_EQ(one->judge(NAN, false), Verdict::kSkipped);
  }
  EXPECT_EQ(guard.mean(), copy.mean());
  EXPECT_EQ(guard.deviation(), copy.deviation());
  EXPECT_EQ(guard.state(), copy.state());
}

}  // namespace
}  // namespace lorikeet
