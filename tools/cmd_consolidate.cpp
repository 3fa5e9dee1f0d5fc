// lorikeet consolidate: one model directory of a checkpoint, whatever number of ranks wrote it.
#include <memory>
#include <string>

#include "lorikeet/config/quantity.h"
#include "lorikeet/core/log.h"
#include "lorikeet/train/consolidate.h"
#include "tools/commands.h"

namespace lorikeet {

void add_consolidate_command(CLI::App& app) {
  struct Options {
    std::string source, output;
  };
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "consolidate", "Make a model directory of a checkpoint that any number of ranks wrote");
  command
      ->add_option("CHECKPOINT_OR_RUN", options->source,
                   "A checkpoint, or a run's folder: its newest whole checkpoint")
      ->required();
  command->add_option("OUTPUT", options->output, "Model directory to be made")->required();
  command->callback([options] {
    const Consolidated result = consolidate(options->source, options->output);
    if (result.tokenizer.empty()) {
      log_warning("the tokenizer of the run's data is not found: copy it to {}/tokenizer.model",
                  options->output);
    }
    log_info("{} parameters of step {} ({}): {}", with_separators(result.num_parameters),
             result.step, result.checkpoint, options->output);
  });
}

}  // namespace lorikeet
