// lorikeet pretrain: trains the run that a configuration describes.
#include <fmt/format.h>

#include <chrono>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "lorikeet/analysis/plan.h"
#include "lorikeet/config/load.h"
#include "lorikeet/core/error.h"
#include "lorikeet/core/version.h"
#include "lorikeet/parallel/launch.h"
#include "lorikeet/train/device.h"
#include "lorikeet/train/trainer.h"
#include "tools/commands.h"
#include "tools/ranks.h"

namespace lorikeet {

namespace {

ExitCode exit_code(RunState state) {
  return state == RunState::kDiverged ? ExitCode::kDiverged : ExitCode::kPreempted;
}

struct PretrainOptions {
  std::string config;
  std::vector<std::string> overrides;
  TrainerOptions trainer;
  bool dry_run = false, print_config = false;
};

/// Sets up and runs.
RunResult run(std::unique_ptr<Trainer>& trainer, const RunConfig& config,
              const TrainerOptions& options) {
  try {
    trainer = std::make_unique<Trainer>(config, options);
    return trainer->run();
  } catch (...) {
    if (!options.world) throw;
    leave_failed(*options.world);
  }
}

void train(const RunConfig& config, TrainerOptions options) {
  options.code_version = commit();
  options.world = meet_ranks(read_launch_environment(), config);
  const bool is_first = !options.world || options.world->is_first();
  std::unique_ptr<Trainer> trainer;
  const RunResult result = run(trainer, config, options);
  if (options.world) options.world->part(std::chrono::seconds(30));
  const std::string& folder = trainer->folder();
  if (!is_first && result.state == RunState::kFinished) return;
  if (!is_first) throw Error(exit_code(result.state), "");  // the first rank says why
  if (result.state == RunState::kPreempted) {
    const int64_t step = trainer->state().step;
    throw Error(ExitCode::kPreempted,
                step == 0 ? "stopped by request before the first step"
                          : fmt::format("stopped at step {} by request; {}", step,
                                        result.is_saved ? "a checkpoint was left"
                                                        : "its checkpoint could not be written"),
                result.is_saved || step == 0 ? "the same command goes on from there"
                                             : "the same command goes on from the one before");
  }
  if (result.state == RunState::kDiverged) {
    throw Error(ExitCode::kDiverged, fmt::format("{}: the run has diverged", folder),
                fmt::format("{}/log.txt says where and why", folder));
  }
  std::cout << "validation loss by domain\n";
  for (const auto& [domain, loss] : result.validation) {
    std::cout << fmt::format("  {:<32}{:>8.4f}\n", domain, loss);
  }
  std::cout << fmt::format(
      "model        {0}/model\nmetrics      {0}/metrics.jsonl\n"
      "log          {0}/log.txt\ncheckpoints  {0}/checkpoints\n",
      folder);
}

/// `auto` is planned for the device that this machine would train on.
void dry_run(RunConfig config) {
  if (config.train.device == DeviceChoice::kAuto && !select_device(DeviceChoice::kAuto).is_cuda()) {
    config.train.device = DeviceChoice::kCpu;
  }
  std::cout << to_text(plan_run(config), config);
}

}  // namespace

void add_pretrain_command(CLI::App& app) {
  const auto options = std::make_shared<PretrainOptions>();
  CLI::App* command =
      app.add_subcommand("pretrain", "Train the run that a configuration describes");
  command->add_option("CONFIG", options->config, "YAML file (docs/config.md)")->required();
  command->add_option("--set", options->overrides, "key=value, over the file; may be repeated")
      ->allow_extra_args(false);
  command
      ->add_option("--resume", options->trainer.resume,
                   "auto: from the newest whole checkpoint, if any; never; or a checkpoint's path")
      ->capture_default_str();
  command->add_flag("--allow-changed-data", options->trainer.allow_changed_data,
                    "Resume although the data is not what it was");
  command->add_flag("--dry-run", options->dry_run,
                    "Print parameters, memory and batch arithmetic, and stop");
  command->add_flag("--print-config", options->print_config,
                    "Print every key with its value, and stop");
  command->callback([options] {
    const RunConfig config = load_run_config(options->config, options->overrides);
    if (options->print_config) {
      std::cout << dump_run_config(config);
    } else if (options->dry_run) {
      dry_run(config);
    } else {
      train(config, options->trainer);
    }
  });
}

}  // namespace lorikeet
