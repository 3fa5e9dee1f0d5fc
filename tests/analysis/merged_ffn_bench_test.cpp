#include "lorikeet/analysis/merged_ffn_bench.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lorikeet/core/cuda_backend.h"

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

std::vector<std::string> forms_of(const std::string& device, int64_t width,
                                  const std::string& dtype) {
  std::vector<std::string> forms;
  for (const MergedFfnTiming& timing : run({.shapes = {{width, 2 * width, 128, 32, dtype}},
                                       .experts = {2},
                                       .repetitions = 1,
                                       .device = device})) {
    forms.push_back(timing.form);
    EXPECT_GT(timing.ms, 0) << timing.form;
    EXPECT_GT(timing.gflops, 0) << timing.form;
    const bool is_ours = timing.form == "merged" || timing.form == "batched" ||
                         (timing.form == "dense" && device == "cpu");
    EXPECT_EQ(timing.workspace_bytes > 0, is_ours) << timing.form;
    // a and b, two bytes each in bf16.
    const int64_t saved = 2 * 2 * timing.shape.tokens * timing.shape.ffn_size;
    EXPECT_EQ(timing.saved_bytes, is_ours && device == "cpu" ? saved : 0) << timing.form;
  }
  return forms;
}

TEST(MergedFfnBench, OnTheCpuOursAndTheReferenceStandBesideADenseLayer) {
  const auto forms = forms_of("cpu", 64, "mixed");
  EXPECT_THAT(forms, testing::IsSupersetOf({"dense", "merged", "reference"}));
  EXPECT_THAT(forms, testing::Not(testing::Contains("batched")));
}

TEST(GpuMergedFfnBench, HasNoRowForKernelsThatDoNotTakeTheShape) {
  std::string why_not;
  if (!load_cuda_backend(&why_not)) GTEST_SKIP() << why_not;
  using testing::ElementsAre;
  EXPECT_THAT(forms_of("cuda", 64, "bf16"),
              ElementsAre("peak", "dense", "merged", "batched", "reference"));
  EXPECT_THAT(forms_of("cuda", 64, "fp32"), ElementsAre("peak", "dense", "batched", "reference"));
  EXPECT_THAT(forms_of("cuda", 60, "bf16"), ElementsAre("peak", "dense", "batched", "reference"));
}

TEST(MergedFfnSweep, EndsForOneToken) { EXPECT_THAT(swept_tokens(1), testing::ElementsAre(2)); }

}  // namespace
}  // namespace lorikeet
