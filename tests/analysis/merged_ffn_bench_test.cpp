#include "lorikeet/analysis/merged_ffn_bench.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lorikeet {
namespace {

/// The numbers of tokens of the shapes that a sweep makes beside those of other segment lengths.
std::vector<int64_t> swept_tokens(int64_t tokens) {
  std::vector<int64_t> swept;
  for (const MergedFfnShape& shape : merged_ffn_sweep({8, 16, tokens, 2000, "fp32"})) {
    if (shape.segment_length == 2000) swept.push_back(shape.tokens);
  }
  return swept;
}

TEST(MergedFfnSweep, GoesFromAQuarterToTwiceTheTokens) {
  EXPECT_THAT(swept_tokens(4096), testing::ElementsAre(1024, 2048, 8192));
  EXPECT_THAT(swept_tokens(2), testing::ElementsAre(1, 4));
}

TEST(MergedFfnSweep, EndsForOneToken) { EXPECT_THAT(swept_tokens(1), testing::ElementsAre(2)); }

}  // namespace
}  // namespace lorikeet
