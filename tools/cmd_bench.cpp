// lorikeet bench merged-ffn: the merged feed-forward against a dense one and against its reference.
// lorikeet bench step: a whole training step.
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "lorikeet/analysis/merged_ffn_bench.h"
#include "lorikeet/analysis/step_bench.h"
#include "lorikeet/config/load.h"
#include "tools/commands.h"
#include "tools/options.h"

namespace lorikeet {

namespace {

struct MergedFfnOptions {
  std::vector<int64_t> hidden_sizes{512, 1024}, ffn_sizes{1376, 2816}, experts{8, 32};
  std::vector<std::string> dtypes{"fp32", "bf16"};
  int64_t tokens = 4096, segment_length = 256, repetitions = 5;
  std::string device = "cpu";
  bool json = false, no_reference = false, sweep = false;
};

void bench_merged_ffn(const MergedFfnOptions& options) {
  if (options.hidden_sizes.size() != options.ffn_sizes.size()) {
    throw CLI::ValidationError("--ffn-size", "as many as --hidden-size");
  }
  MergedFfnBench bench{.shapes = {},
                       .experts = options.experts,
                       .repetitions = options.repetitions,
                       .with_reference = !options.no_reference,
                       .device = options.device};
  for (size_t i = 0; i < options.hidden_sizes.size(); ++i) {
    for (const std::string& dtype : options.dtypes) {
      const MergedFfnShape shape{options.hidden_sizes[i], options.ffn_sizes[i], options.tokens,
                                 options.segment_length, dtype};
      const auto shapes =
          options.sweep ? merged_ffn_sweep(shape) : std::vector<MergedFfnShape>{shape};
      bench.shapes.insert(bench.shapes.end(), shapes.begin(), shapes.end());
    }
  }
  const auto timings = run(bench);
  std::cout << (options.json ? to_json_lines(timings) : to_table(timings));
}

struct StepOptions {
  std::string config, dtype;
  std::vector<std::string> overrides;
  int64_t experts = -1, repetitions = 4;
  bool json = false;
};

/// What is not a default, where no configuration is given.
constexpr const char* kStepConfig =
    "model: {feed_forward: {kind: merged}}\n"
    "train: {steps: 1, batch_sequences: 4, micro_batch: 4, precision: bf16}\n";

/// The configuration's model and batch, or the default model with four sequences a step in bf16.
RunConfig step_config(const StepOptions& options) {
  RunConfig config =
      options.config.empty()
          ? parse_run_config(kStepConfig, "the default configuration", options.overrides)
          : load_run_config(options.config, options.overrides);
  if (options.experts == 0) config.model.feed_forward.kind = FeedForwardKind::kDense;
  if (options.experts > 0) {
    config.model.feed_forward.kind = FeedForwardKind::kMerged;
    config.model.feed_forward.num_experts = options.experts;
  }
  if (!options.dtype.empty()) {
    config.train.precision = options.dtype == "bf16" ? Precision::kBf16 : Precision::kFp32;
  }
  return config;
}

void bench_step(const StepOptions& options) {
  const StepTiming timing = bench_step(step_config(options), options.repetitions);
  std::cout << (options.json ? to_json(timing) : to_text(timing));
}

void add_merged_ffn(CLI::App& bench) {
  const auto options = std::make_shared<MergedFfnOptions>();
  CLI::App* command = bench.add_subcommand(
      "merged-ffn",
      "Merged experts, forward and backward, against a dense layer and the reference");
  const CLI::Validator positive = whole_number(1);
  command->add_option("--hidden-size", options->hidden_sizes, "D; several with commas")
      ->delimiter(',')
      ->check(positive);
  command->add_option("--ffn-size", options->ffn_sizes, "F, one for each D")
      ->delimiter(',')
      ->check(positive);
  command->add_option("--experts", options->experts, "Numbers of experts")
      ->delimiter(',')
      ->check(positive);
  command->add_option("--dtype", options->dtypes, "fp32, bf16, mixed (bf16 with fp32 experts)")
      ->delimiter(',')
      ->check(CLI::IsMember({"fp32", "bf16", "mixed"}));
  command->add_option("--tokens", options->tokens, "Tokens")->check(positive);
  command->add_option("--segment-length", options->segment_length, "Tokens a segment")
      ->check(positive);
  command->add_option("--repetitions", options->repetitions, "The best of so many counts")
      ->check(positive);
  command->add_option("--device", options->device, "cpu or cuda")
      ->check(CLI::IsMember({"cpu", "cuda"}));
  command->add_flag("--json", options->json, "JSON lines instead of a table");
  command->add_flag("--sweep", options->sweep,
                    "Segments of 64 to 1024 tokens, and a quarter to twice the tokens, for each D");
  command->add_flag("--no-reference", options->no_reference, "Leave the ATen reference out");
  command->callback([options] { bench_merged_ffn(*options); });
}

void add_step(CLI::App& bench) {
  const auto options = std::make_shared<StepOptions>();
  CLI::App* command = bench.add_subcommand(
      "step", "A training step on random tokens: tokens/s, memory, and where its time goes");
  command->add_option("config", options->config,
                      "Configuration; without one hidden size 512, 8 layers, 8 experts, context "
                      "1024, vocabulary 8192, 4 sequences, bf16");
  command->add_option("--set", options->overrides, "KEY=VALUE over the configuration's");
  command->add_option("--experts", options->experts, "Number of experts; 0: dense")
      ->check(whole_number(0, 4096));
  command->add_option("--dtype", options->dtype, "fp32 or bf16")
      ->check(CLI::IsMember({"fp32", "bf16"}));
  command->add_option("--repetitions", options->repetitions, "The best of so many steps")
      ->check(whole_number(1, 1'000'000));
  command->add_flag("--json", options->json, "One line of JSON");
  command->callback([options] { bench_step(*options); });
}

}  // namespace

void add_bench_command(CLI::App& app) {
  CLI::App* bench = app.add_subcommand("bench", "Time parts of a model on this machine");
  bench->require_subcommand(1);
  add_merged_ffn(*bench);
  add_step(*bench);
}

}  // namespace lorikeet
