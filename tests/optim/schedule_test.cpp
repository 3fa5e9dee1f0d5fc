#include "lorikeet/optim/schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <vector>

namespace lorikeet {
namespace {

const std::vector<ScheduleKind> kAllKinds = {ScheduleKind::kCosine, ScheduleKind::kLinear,
                                             ScheduleKind::kConstant, ScheduleKind::kMultiStep,
                                             ScheduleKind::kWarmupStableDecay};

ScheduleConfig make_config(ScheduleKind kind, int64_t warmup, int64_t anneal = 0) {
  ScheduleConfig config;
  config.kind = kind;
  config.peak = 1.0;
  config.warmup = Period::steps(static_cast<double>(warmup));
  config.anneal = Period::steps(static_cast<double>(anneal));
  config.final_fraction = 0.1;
  config.decay = Period::steps(4);
  return config;
}

std::vector<double> rates(const ScheduleConfig& config, int64_t total_steps) {
  std::vector<double> values;
  for (int64_t step = 0; step < total_steps; ++step) {
    values.push_back(learning_rate(config, step, total_steps, 1024));
  }
  return values;
}

void expect_rates(const ScheduleConfig& config, const std::vector<double>& expected) {
  const std::vector<double> actual = rates(config, static_cast<int64_t>(expected.size()));
  for (size_t step = 0; step < expected.size(); ++step) {
    EXPECT_NEAR(actual[step], expected[step], 1e-12) << "step " << step;
  }
}

TEST(LearningRate, FollowsTheTablesWorkedOutByHand) {
  const double root = std::sqrt(0.5);
  // 0.1 + 0.9 * (1 + cos(pi s / 4)) / 2, the first two steps times 1/2 and 1.
  expect_rates(make_config(ScheduleKind::kCosine, 2),
               {0.5, 0.1 + 0.45 * (1 + root), 0.1 + 0.45, 0.1 + 0.45 * (1 - root)});
  expect_rates(make_config(ScheduleKind::kLinear, 2), {0.5, 0.82, 0.64, 0.46, 0.28});
  expect_rates(make_config(ScheduleKind::kConstant, 4), {0.25, 0.5, 0.75, 1, 1, 1});
  expect_rates(make_config(ScheduleKind::kMultiStep, 0),
               {1, 1, 1, 1, 1, 1, 1, 1, 0.316, 0.316 * 0.316});
  expect_rates(make_config(ScheduleKind::kWarmupStableDecay, 2),
               {0.5, 1, 1, 1, 1, 0.775, 0.55, 0.325});
}

TEST(LearningRate, AnnealsFromTheValueReachedLinearlyToZero) {
  expect_rates(make_config(ScheduleKind::kConstant, 0, 4), {1, 1, 1, 0.75, 0.5, 0.25});
  expect_rates(make_config(ScheduleKind::kCosine, 0, 2), {1, 0.55, 0.1, 0.05});
  expect_rates(make_config(ScheduleKind::kLinear, 1, 2), {1, 0.55, 0.1, 0.05});
  expect_rates(make_config(ScheduleKind::kWarmupStableDecay, 0, 2),
               {1, 0.775, 0.55, 0.325, 0.1, 0.05});
}

TEST(LearningRate, IsTheReferenceScriptsCosineTimesRamp) {
  ScheduleConfig config;  // the defaults: cosine, warm-up 5%, to a tenth
  config.peak = 3e-4;
  const int64_t n = 400;
  for (int64_t s = 0; s < n; ++s) {
    const double ramp = std::min(1.0, static_cast<double>(s + 1) / (0.05 * n));
    const double cosine = 0.1 + 0.9 * 0.5 * (1 + std::cos(std::numbers::pi * s / n));
    EXPECT_NEAR(learning_rate(config, s, n, 4096), 3e-4 * ramp * cosine, 1e-16) << s;
  }
}

TEST(LearningRate, RisesInTheWarmupAndNeverAfterIt) {
  for (const ScheduleKind kind : kAllKinds) {
    for (const int64_t anneal : {0, 100}) {
      ScheduleConfig config = make_config(kind, 20, anneal);
      config.decay = Period::percent(20);
      const std::vector<double> values = rates(config, 500);
      for (size_t step = 1; step < values.size(); ++step) {
        const bool is_rising = values[step] > values[step - 1];
        EXPECT_EQ(is_rising, step < 20) << "step " << step;
        EXPECT_GT(values[step], 0) << "step " << step;
      }
    }
  }
}

TEST(LearningRate, HasNoJumpsButThoseOfMultiStep) {
  for (const ScheduleKind kind : kAllKinds) {
    ScheduleConfig config = make_config(kind, 500, 1000);
    config.decay = Period::percent(20);
    const std::vector<double> values = rates(config, 10000);
    int jumps = 0;
    for (size_t step = 1; step < values.size(); ++step) {
      jumps += std::abs(values[step] - values[step - 1]) > 0.003 ? 1 : 0;
    }
    EXPECT_EQ(jumps, kind == ScheduleKind::kMultiStep ? 2 : 0);
  }
}

TEST(LearningRate, OfARunOfOneStepIsThePeak) {
  for (const ScheduleKind kind : kAllKinds) {
    ScheduleConfig config = make_config(kind, 0);
    config.decay = Period::never();
    config.warmup = Period::percent(5);  // one step at least
    EXPECT_EQ(rates(config, 1), std::vector<double>{1.0});
    config.warmup = Period::never();
    EXPECT_EQ(rates(config, 1), std::vector<double>{1.0});
  }
}

TEST(LearningRate, StaysAtItsFinalValueAfterTheRun) {
  for (const ScheduleKind kind :
       {ScheduleKind::kCosine, ScheduleKind::kLinear, ScheduleKind::kWarmupStableDecay}) {
    for (const int64_t step : {100, 101, 100000}) {
      EXPECT_NEAR(learning_rate(make_config(kind, 5), step, 100, 1), 0.1, 1e-15);
      EXPECT_EQ(learning_rate(make_config(kind, 5, 10), step, 100, 1), 0.0);
    }
  }
}

TEST(LearningRate, TakesPeriodsInTokensAndPercent) {
  ScheduleConfig steps = make_config(ScheduleKind::kWarmupStableDecay, 10, 20);
  steps.decay = Period::steps(40);
  ScheduleConfig others = steps;
  others.warmup = Period::tokens(10 * 512);
  others.anneal = Period::percent(10);
  others.decay = Period::tokens(40 * 512);
  for (int64_t step = 0; step < 200; ++step) {
    EXPECT_EQ(learning_rate(steps, step, 200, 512), learning_rate(others, step, 200, 512));
  }
}

}  // namespace
}  // namespace lorikeet
