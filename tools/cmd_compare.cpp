// lorikeet compare: trains what is missing of several configurations and sets them side by side.
#include <fmt/format.h>

#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "lorikeet/analysis/comparison.h"
#include "lorikeet/checkpoint/checkpoint.h"
#include "lorikeet/config/load.h"
#include "lorikeet/core/error.h"
#include "lorikeet/core/file.h"
#include "lorikeet/core/hash.h"
#include "lorikeet/core/log.h"
#include "lorikeet/data/batch_loader.h"
#include "lorikeet/parallel/launch.h"
#include "lorikeet/train/run_folder.h"
#include "tools/child_run.h"
#include "tools/commands.h"
#include "tools/options.h"

namespace lorikeet {

namespace {

struct CompareOptions {
  std::vector<std::string> configs, overrides;
  std::vector<int64_t> seeds;
  std::string against, output;
  bool no_run = false, json = false;
};

/// A run to be made: `pretrain` with these arguments.
struct PlannedRun {
  RunConfig config;
  std::vector<std::string> arguments;

  std::string folder() const { return config.output + "/" + config.name; }
};

PlannedRun plan(const std::string& path, std::vector<std::string> overrides,
                std::optional<int64_t> seed) {
  if (seed) {
    const std::string name = load_run_config(path, overrides).name;
    overrides.push_back(fmt::format("seed={}", *seed));
    overrides.push_back(fmt::format("name={}_seed{}", name, *seed));
  }
  PlannedRun run{load_run_config(path, overrides), {"pretrain", path}};
  for (const auto& setting : overrides) {
    run.arguments.insert(run.arguments.end(), {"--set", setting});
  }
  return run;
}

/// Every run, each configuration's together.
std::vector<std::vector<PlannedRun>> plan_runs(const CompareOptions& options) {
  std::vector<std::vector<PlannedRun>> runs;
  std::set<std::string> names;
  for (const auto& path : options.configs) {
    auto& mine = runs.emplace_back();
    for (const int64_t seed : options.seeds) mine.push_back(plan(path, options.overrides, seed));
    if (options.seeds.empty()) mine.push_back(plan(path, options.overrides, std::nullopt));
    for (const auto& run : mine) {
      if (names.insert(run.config.name).second) continue;
      throw Error(ExitCode::kUsage,
                  fmt::format("{}: two of the runs are called {}", path, run.config.name),
                  "give each configuration a `name` of its own, and each seed once");
    }
  }
  return runs;
}

/// What may differ between a run and the configuration that it is compared as: where and how it was
/// computed and shown, not what.
bool is_free(const std::string& key) {
  for (const char* free : {"output", "log.", "checkpoint.", "parallel.", "train.threads",
                           "train.device", "model.feed_forward.kernel"}) {
    if (key.starts_with(free)) return true;
  }
  return false;
}

/// Refuses a folder whose run has other settings: its losses would stand under the wrong name.
void require_same_settings(const PlannedRun& run) {
  const std::string path = run.folder() + "/config.yaml";
  if (!std::filesystem::exists(path)) return;
  const auto there =
      config_entries(parse_run_config(read_text_file(path, ExitCode::kCheckpoint), path));
  std::string changes;
  for (const auto& [key, value] : config_entries(run.config)) {
    const auto found = there.find(key);
    if (is_free(key) || (found != there.end() && found->second == value)) continue;
    changes += fmt::format("\n  {}: {} there, {} now", key,
                           found == there.end() ? "absent" : found->second, value);
  }
  if (changes.empty()) return;
  throw Error(ExitCode::kUsage,
              fmt::format("{}: was trained with other settings{}", run.folder(), changes),
              "set them back, give the configuration another `name`, or remove the folder");
}

/// Of the data that a run of this configuration would read now; empty, with a warning, where it
/// cannot be read: what has been trained can be compared without.
std::string fingerprint_of_data(const RunConfig& config) {
  try {
    const Dataset dataset(config.data.shards, Dataset::Verify::kTables);
    const BatchLoader loader(dataset, {.context_length = config.model.context_length,
                                       .seed = config.seed,
                                       .order = config.data.order,
                                       .mixture = config.data.mixture});
    return to_hex(loader.fingerprint());
  } catch (const Error& error) {
    log_warning("{}: whether it was trained on these data cannot be told: {}", config.name,
                error.what());
    return "";
  }
}

/// Refuses a run that read other data under the same names: an order file made anew, say.
void require_same_data(const PlannedRun& run) {
  if (!std::filesystem::exists(run.folder() + "/checkpoints")) return;
  const auto no_tensors = [](const auto&...) { return false; };
  const auto checkpoint = CheckpointStore(run.folder(), {}).load_newest(no_tensors);
  if (!checkpoint) return;
  const std::string there = checkpoint->data_fingerprint;
  const std::string now = fingerprint_of_data(run.config);
  if (now.empty() || now == there) return;
  throw Error(ExitCode::kData,
              fmt::format("{}: was trained on other data: fingerprint {} there, {} now",
                          run.folder(), there, now),
              fmt::format("bring {} in the order '{}' back, give the configuration another `name`, "
                          "or remove the folder",
                          run.config.data.shards, run.config.data.order));
}

RunStatus status_of(const PlannedRun& run) {
  if (!std::filesystem::exists(run.folder())) return {RunState::kRunning, 0, 0, ""};
  return RunFolder(run.folder(), /*is_owner=*/false)
      .status()
      .value_or(RunStatus{RunState::kRunning, 0, 0, ""});
}

bool is_over(const PlannedRun& run) {
  const RunState state = status_of(run).state;
  return state == RunState::kFinished || state == RunState::kDiverged;
}

/// @return 0 if it is at its end, however that looks; else what it failed with
int train(const PlannedRun& run) {
  const int code = run_child(run.arguments);
  if (was_asked_to_stop() || code == static_cast<int>(ExitCode::kPreempted)) {
    throw Error(
        ExitCode::kPreempted,
        fmt::format("{}: stopped by request at step {}", run.config.name, status_of(run).step),
        "the same command goes on from there");
  }
  if (code == 0 || code == static_cast<int>(ExitCode::kDiverged)) return 0;
  log_error("{}: has failed with code {}; the others go on", run.config.name, code);
  return code;
}

/// Trains one after another what is not at its end. @return the first code of those that failed
int train_missing(const std::vector<std::vector<PlannedRun>>& runs) {
  std::vector<const PlannedRun*> missing;
  for (const auto& setting : runs) {
    for (const auto& run : setting) {
      if (!is_over(run)) missing.push_back(&run);
    }
  }
  if (!missing.empty() && read_launch_environment().world_size > 1) {
    throw Error(ExitCode::kUsage, "compare trains in one process, one run after another",
                "train each under the launcher with `pretrain`, then `compare --no-run`");
  }
  int failure = 0;
  for (size_t i = 0; i < missing.size(); ++i) {
    log_info("run {} of {}: {}", i + 1, missing.size(), missing[i]->config.name);
    const int code = train(*missing[i]);
    if (failure == 0) failure = code;
  }
  return failure;
}

std::string describe(const RunStatus& status) {
  switch (status.state) {
    case RunState::kFinished:
      return "finished";
    case RunState::kDiverged:
      return fmt::format("diverged at step {}", status.step);
    case RunState::kFailed:
      return fmt::format("failed at step {}: {}", status.step, status.message);
    case RunState::kRunning:
    case RunState::kPreempted:
      break;
  }
  return fmt::format("not at its end of {} steps", status.total_steps);
}

ComparedRun read_run(const PlannedRun& planned) {
  const RunStatus status = status_of(planned);
  ComparedRun run{planned.config.seed, planned.config.name, describe(status), false, {}};
  run.is_left_out = status.state == RunState::kDiverged || status.state == RunState::kFailed;
  if (!run.is_left_out || std::filesystem::exists(planned.folder() + "/metrics.jsonl")) {
    run.curve = read_run_curve(planned.folder());
  }
  return run;
}

/// Settings without their curves.
std::vector<ComparedSetting> name_settings(const CompareOptions& options,
                                           const std::vector<std::vector<PlannedRun>>& runs) {
  std::vector<ComparedSetting> settings;
  for (size_t i = 0; i < runs.size(); ++i) {
    settings.push_back(
        {load_run_config(options.configs[i], options.overrides).name, runs[i].at(0).config, {}});
  }
  return settings;
}

void make_folder(const std::string& path) {
  std::error_code failure;
  std::filesystem::create_directories(path, failure);
  if (!failure) return;
  throw Error(ExitCode::kUsage, fmt::format("{}: cannot be made: {}", path, failure.message()),
              "--output names a folder you may write to");
}

void compare(const CompareOptions& options) {
  const auto runs = plan_runs(options);
  auto settings = name_settings(options, runs);
  // What can be refused is refused before hours of training.
  find_reference(settings, options.against);
  for (const auto& setting : runs) {
    for (const auto& run : setting) {
      require_same_settings(run);
      require_same_data(run);
    }
  }
  const std::string folder =
      options.output.empty() ? runs[0][0].config.output + "/compare" : options.output;
  make_folder(folder);
  const int failure = options.no_run ? 0 : train_missing(runs);
  for (size_t i = 0; i < runs.size(); ++i) {
    for (const auto& run : runs[i]) settings[i].runs.push_back(read_run(run));
  }
  const Comparison comparison = compare(settings, options.against);
  write_file_atomically(folder + "/report.html", to_html(comparison, settings), ExitCode::kUsage);
  const std::string json = to_json(comparison, settings);
  write_file_atomically(folder + "/report.json", json, ExitCode::kUsage);
  std::cout << (options.json ? json : to_text(comparison)) << std::flush;
  log_info("{}/report.html and report.json have the curves", folder);
  if (failure != 0) {
    throw Error(static_cast<ExitCode>(failure), "not all runs could be trained",
                "what they printed says why; the same command tries them again");
  }
}

}  // namespace

void add_compare_command(CLI::App& app) {
  const auto options = std::make_shared<CompareOptions>();
  CLI::App* command = app.add_subcommand(
      "compare", "Train what is missing of several configurations, and set them side by side");
  command->add_option("CONFIG", options->configs, "YAML files (docs/config.md)")->required();
  command
      ->add_option("--seeds", options->seeds,
                   "Train each with these seeds, as NAME_seedN: 1,2. Default: as the files say")
      ->delimiter(',')
      ->check(seed_number())
      ->allow_extra_args(false);
  command->add_option("--set", options->overrides, "key=value, over all files; may be repeated")
      ->allow_extra_args(false);
  command->add_option("--against", options->against,
                      "Name that the others are compared with. Default: the first dense one");
  command->add_option("--output", options->output,
                      "Folder of report.html and report.json. Default: OUTPUT/compare");
  command->add_flag("--no-run", options->no_run, "Train nothing: compare what is there");
  command->add_flag("--json", options->json, "Print report.json instead of the table");
  command->callback([options] { compare(*options); });
}

}  // namespace lorikeet
