// lorikeet bench merged-ffn: the merged feed-forward against a dense one and against its reference.
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "lorikeet/analysis/merged_ffn_bench.h"
#include "tools/commands.h"

namespace lorikeet {

namespace {

struct Options {
  std::vector<int64_t> hidden_sizes{512, 1024}, ffn_sizes{1376, 2816}, experts{8, 32};
  std::vector<std::string> dtypes{"fp32", "bf16"};
  int64_t tokens = 4096, segment_length = 256, repetitions = 5;
  bool json = false, no_reference = false;
};

void bench_merged_ffn(const Options& options) {
  if (options.hidden_sizes.size() != options.ffn_sizes.size()) {
    throw CLI::ValidationError("--ffn-size", "as many as --hidden-size");
  }
  MergedFfnBench bench{.shapes = {},
                       .experts = options.experts,
                       .repetitions = options.repetitions,
                       .with_reference = !options.no_reference};
  for (size_t i = 0; i < options.hidden_sizes.size(); ++i) {
    for (const std::string& dtype : options.dtypes) {
      bench.shapes.push_back({options.hidden_sizes[i], options.ffn_sizes[i], options.tokens,
                              options.segment_length, dtype});
    }
  }
  const auto timings = run(bench);
  std::cout << (options.json ? to_json_lines(timings) : to_table(timings));
}

}  // namespace

void add_bench_command(CLI::App& app) {
  CLI::App* bench = app.add_subcommand("bench", "Time parts of a model on this machine");
  bench->require_subcommand(1);
  const auto options = std::make_shared<Options>();
  CLI::App* command = bench->add_subcommand(
      "merged-ffn",
      "Merged experts, forward and backward, against a dense layer and the reference");
  const CLI::Range positive(int64_t{1}, int64_t{1} << 40);
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
  command->add_flag("--json", options->json, "JSON lines instead of a table");
  command->add_flag("--no-reference", options->no_reference, "Leave the ATen reference out");
  command->callback([options] { bench_merged_ffn(*options); });
}

}  // namespace lorikeet
