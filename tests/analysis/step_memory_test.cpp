// What --dry-run says a step needs, against what one took.
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "lorikeet/analysis/step_bench.h"

namespace lorikeet {
namespace {

/// Over a model of 8 experts of which nothing dominates: 200 MB of parameters, gradients and
/// moments, 150 MB of activations, a vocabulary that shows.
struct Case {
  const char* name;
  const char* settings;
};

constexpr const char* kBase =
    "--set model.hidden_size=256 --set model.ffn_size=688 --set model.num_layers=4 "
    "--set model.num_heads=4 --set model.context_length=512 "
    "--set model.feed_forward.segment_length=128 --set train.threads=2 "
    "--set train.micro_batch=4 --set train.batch_sequences=4 --repetitions 1 --json ";

/// A process of its own: its peak is that of the step.
nlohmann::json step_of(const std::string& settings) {
  const auto program = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "lorikeet";
  const std::string command = program.string() + " bench step " + kBase + settings;
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(::popen(command.c_str(), "r"), ::pclose);
  std::string text(1 << 16, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), pipe.get()));
  return nlohmann::json::parse(text);
}

class StepMemory : public ::testing::TestWithParam<Case> {};

TEST_P(StepMemory, IsWithinATenthOfThePlan) {
  const nlohmann::json row = step_of(GetParam().settings);
  const double planned = row.at("planned_memory_bytes"), peak = row.at("peak_memory_bytes");
  EXPECT_NEAR(planned / peak, 1, 0.1) << row.dump(1);
}

std::string name_of(const ::testing::TestParamInfo<Case>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(
    All, StepMemory,
    ::testing::Values(Case{"MergedBf16", "--dtype bf16"}, Case{"MergedFp32", "--dtype fp32"},
                      Case{"RecomputedBlocks",
                           "--dtype fp32 --set train.activation_checkpointing=block"},
                      Case{"LargeVocabulary", "--dtype fp32 --set model.vocab_size=65536"}),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    Slow, StepMemory,
    ::testing::Values(
        Case{"DenseBf16",
             "--dtype bf16 --experts 0 --set train.micro_batch=8 "
             "--set train.batch_sequences=8"},
        Case{"DenseFp32",
             "--dtype fp32 --experts 0 --set train.micro_batch=8 "
             "--set train.batch_sequences=8"},
        Case{"Documents",
             "--dtype fp32 --experts 0 --set train.micro_batch=8 "
             "--set train.batch_sequences=8 --set model.attention_scope=document"},
        Case{"MoreExpertsFp32", "--dtype fp32 --experts 24"},
        Case{"RecomputedAttention", "--dtype bf16 --set train.activation_checkpointing=attention"},
        Case{"RecomputedFeedForward", "--dtype fp32 --set train.activation_checkpointing=ffn"},
        Case{"Accumulated", "--dtype bf16 --set train.batch_sequences=8"},
        Case{"Reference", "--dtype fp32 --set model.feed_forward.kernel=reference"}),
    name_of);

}  // namespace
}  // namespace lorikeet
