// lorikeet score: per-token log-probabilities of token ids or text under any model directory.
#include <memory>
#include <string>

#include "lorikeet/core/log.h"
#include "lorikeet/evaluate/score.h"
#include "lorikeet/model/load.h"
#include "tools/commands.h"

namespace lorikeet {

void add_score_command(CLI::App& app) {
  struct Options {
    std::string model, input, output;
  };
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "score", "Per-token log-probabilities (natural logarithm) of token ids or text");
  command->add_option("MODEL", options->model, "Model directory")->required();
  command
      ->add_option("--input", options->input,
                   "JSON lines {\"ids\": [...]} or {\"text\": \"...\"}; -: standard input")
      ->required();
  command
      ->add_option(
          "--output", options->output,
          "JSON lines {\"logprobs\": [...]}; of text, with its \"ids\"; -: standard output")
      ->required();
  command->callback([options] {
    LineFiles files(options->input,
                    options->output);  // a wrong path shows before the model is read
    LanguageModel model = load_language_model(options->model);
    const int64_t scored = score_lines(model, options->model, files);
    log_info("scored {} sequences: {}", scored,
             options->output == "-" ? "<stdout>" : options->output);
  });
}

}  // namespace lorikeet
