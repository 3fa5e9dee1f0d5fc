#include "lorikeet/evaluate/sampling.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "tests/core/temporary_folder.h"

namespace lorikeet {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::vector<float> kLogits = {0.3f, 2.0f, -1.0f, 1.2f, 2.0f, -4.0f, 0.0f};

std::vector<float> random_logits(size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<float> logits(count);
  for (float& x : logits) x = static_cast<float>(random() % 10000) / 1000.0f - 5.0f;
  return logits;
}

std::map<int64_t, double> probabilities(const std::vector<float>& logits,
                                        const SamplingOptions& options) {
  std::map<int64_t, double> found;
  for (const auto& [id, p] : sampling_candidates(logits, options)) {
    EXPECT_TRUE(found.emplace(id, p).second) << "twice: " << id;
  }
  return found;
}

std::vector<double> softmax(const std::vector<float>& logits, double temperature) {
  double sum = 0;
  std::vector<double> p;
  for (const float x : logits) p.push_back(std::exp(x / temperature));
  for (const double x : p) sum += x;
  for (double& x : p) x /= sum;
  return p;
}

TEST(Sampling, WithoutCutsIsTheSoftmaxAtTheTemperature) {
  for (const double temperature : {0.5, 1.0, 3.0}) {
    const auto found = probabilities(kLogits, {.temperature = temperature});
    const auto expected = softmax(kLogits, temperature);
    ASSERT_EQ(found.size(), expected.size());
    for (const auto& [id, p] : found) EXPECT_NEAR(p, expected[id], 1e-12);
  }
}

TEST(Sampling, GreedyAndTheFirstOfTopKAreTheArgMax) {
  for (unsigned seed = 0; seed < 50; ++seed) {
    const auto logits = random_logits(200, seed);
    const int64_t best = std::max_element(logits.begin(), logits.end()) - logits.begin();
    Sampler greedy({.temperature = 0}), one({.temperature = 1.7, .top_k = 1, .seed = seed});
    EXPECT_EQ(greedy.next(logits), best);
    EXPECT_EQ(one.next(logits), best);
  }
}

TEST(Sampling, OfEqualLogitsTheLowerIdIsTheMoreProbable) {
  Sampler greedy({.temperature = 0}), one({.top_k = 1}), few({.top_p = 1e-9});
  EXPECT_EQ(greedy.next(kLogits), 1);
  EXPECT_EQ(one.next(kLogits), 1);
  EXPECT_EQ(few.next(kLogits), 1);
}

TEST(Sampling, TopKKeepsTheKMostProbableInProportion) {
  const auto all = softmax(kLogits, 1.0);
  const auto kept = probabilities(kLogits, {.top_k = 3});
  ASSERT_EQ(kept.size(), 3u);
  const double total = all[1] + all[3] + all[4];
  for (const int64_t id : {1, 3, 4}) EXPECT_NEAR(kept.at(id), all[id] / total, 1e-12);
  EXPECT_EQ(probabilities(kLogits, {.top_k = 7}).size(), 7u);
  EXPECT_EQ(probabilities(kLogits, {.top_k = 1000}).size(), 7u);
}

TEST(Sampling, TopPKeepsTheSmallestSetThatReachesP) {
  for (unsigned seed = 0; seed < 20; ++seed) {
    const auto logits = random_logits(100, seed);
    const auto all = softmax(logits, 0.8);
    for (const double top_p : {1e-6, 0.1, 0.5, 0.9, 0.999}) {
      const auto kept = probabilities(logits, {.temperature = 0.8, .top_p = top_p});
      double sum = 0, least = 1, most_left_out = 0, normalised = 0;
      for (const auto& [id, p] : kept) {
        sum += all[id];
        least = std::min(least, all[id]);
        normalised += p;
      }
      for (size_t id = 0; id < all.size(); ++id) {
        if (!kept.contains(id)) most_left_out = std::max(most_left_out, all[id]);
      }
      ASSERT_GE(kept.size(), 1u);
      EXPECT_GE(sum, top_p - 1e-12);
      EXPECT_LT(sum - least, top_p);  // without its least probable one the set is too small
      EXPECT_GE(least, most_left_out);
      EXPECT_NEAR(normalised, 1, 1e-12);
      for (const auto& [id, p] : kept) EXPECT_NEAR(p, all[id] / sum, 1e-12);
    }
  }
}

TEST(Sampling, TopPCutsWhatTopKLeft) {
  // Of four equal tokens top-k leaves two, of which either alone reaches one half.
  EXPECT_EQ(probabilities({1, 1, 1, 1}, {.top_k = 2, .top_p = 0.5}).size(), 1u);
  EXPECT_EQ(probabilities({1, 1, 1, 1}, {.top_k = 2, .top_p = 0.51}).size(), 2u);
  EXPECT_EQ(probabilities({1, 1, 1, 1}, {.top_p = 0.51}).size(), 3u);
}

TEST(Sampling, ExtremeTemperaturesAndLogitsStayFinite) {
  const std::vector<float> wide = {-3e38f, 3e38f, 0.0f};
  for (const double temperature : {5e-324, 1e-30, 1.0, 1e300}) {
    double sum = 0;
    for (const auto& [id, p] : sampling_candidates(wide, {.temperature = temperature})) sum += p;
    EXPECT_NEAR(sum, 1, 1e-12) << temperature;
  }
  Sampler cold({.temperature = 5e-324});
  EXPECT_EQ(cold.next(wide), 1);
}

TEST(Sampler, DrawsEachTokenAsOftenAsItsProbabilitySays) {
  const SamplingOptions options{.temperature = 1.3, .top_k = 6, .top_p = 0.95, .seed = 7};
  const auto expected = probabilities(kLogits, options);
  ASSERT_EQ(expected.size(), 5u);
  Sampler sampler(options);
  std::map<int64_t, int> drawn;
  constexpr int kDraws = 20000;
  for (int i = 0; i < kDraws; ++i) ++drawn[sampler.next(kLogits)];
  double chi_square = 0;
  for (const auto& [id, count] : drawn) ASSERT_TRUE(expected.contains(id)) << id;
  for (const auto& [id, p] : expected) {
    chi_square += std::pow(drawn[id] - kDraws * p, 2) / (kDraws * p);
  }
  EXPECT_LT(chi_square, 18.47);  // 4 degrees of freedom: exceeded by one seed in a thousand
}

TEST(Sampler, TheSeedDecidesTheDraws) {
  const auto draws = [](uint64_t seed) {
    Sampler sampler({.seed = seed});
    std::vector<int64_t> ids;
    for (int i = 0; i < 40; ++i) ids.push_back(sampler.next(kLogits));
    return ids;
  };
  EXPECT_EQ(draws(3), draws(3));
  EXPECT_NE(draws(3), draws(4));
}

TEST(Sampler, RefusesOptionsOutOfRangeByName) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  const auto refusal = [](const SamplingOptions& options) {
    return testing::error_of(ExitCode::kUsage, [&] { Sampler sampler(options); });
  };
  for (const double bad : {-0.1, nan, infinity}) {
    EXPECT_THAT(refusal({.temperature = bad}), HasSubstr("temperature: "));
  }
  EXPECT_THAT(refusal({.top_k = -1}), HasSubstr("top-k: -1 is negative"));
  for (const double bad : {0.0, -0.5, 1.01, nan}) {
    EXPECT_THAT(refusal({.top_p = bad}), HasSubstr("top-p: "));
  }
}

}  // namespace
}  // namespace lorikeet
