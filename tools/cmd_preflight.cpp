// lorikeet preflight: whether this machine, or these machines, can do a run.
#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "lorikeet/analysis/preflight.h"
#include "lorikeet/config/load.h"
#include "lorikeet/core/error.h"
#include "lorikeet/core/file.h"
#include "lorikeet/core/version.h"
#include "lorikeet/train/device.h"
#include "tools/commands.h"
#include "tools/options.h"
#include "tools/ranks.h"
#include "tools/report.h"

namespace lorikeet {

namespace {

constexpr double kMega = 1e6;

struct Options {
  std::string config;
  std::vector<std::string> overrides;
  PreflightLimits limits;
};

/// Prints and writes the report on the first rank. @throws Error(kNoGo) on all
void conclude(const PreflightReport& report, const RunConfig& config, bool is_first) {
  if (is_first) {
    const std::string folder = config.output + "/" + config.name;
    std::filesystem::create_directories(folder);
    write_file_atomically(folder + "/preflight.json", to_json(report), ExitCode::kUsage);
    std::cout << to_text(report) << std::flush;
  }
  if (report.is_go()) return;
  throw Error(ExitCode::kNoGo, is_first ? "preflight: no-go" : "",  // the first rank says it
              is_first ? "docs/running.md says what each check means" : "");
}

void preflight(const Options& options) {
  const RunConfig config = load_run_config(options.config, options.overrides);
  const LaunchEnvironment environment = read_launch_environment();
  // Before the ranks meet: groups cannot be made of another number of ranks.
  const PreflightCheck layout = check_layout(config, environment.world_size);
  if (layout.verdict == Verdict::kNoGo) {
    return conclude({{layout}}, config, environment.rank == 0);
  }
  std::shared_ptr<World> world = meet_ranks(environment, config);
  const bool is_alone = world == nullptr;
  if (is_alone) world = World::single(select_device(config.train.device));
  try {
    const PreflightReport report =
        preflight(config, *world,
                  {.program = std::filesystem::read_symlink("/proc/self/exe").string(),
                   .code_version = commit(),
                   .environment = environment,
                   .limits = options.limits});
    conclude(report, config, world->is_first());
  } catch (...) {
    if (is_alone) throw;
    leave_failed(*world);
  }
  world->part(std::chrono::seconds(30));
}

}  // namespace

void add_preflight_command(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "preflight", "Find out whether this machine can do the run that a configuration describes");
  command->add_option("CONFIG", options->config, "YAML file (docs/config.md)")->required();
  command->add_option("--set", options->overrides, "key=value, over the file; may be repeated")
      ->allow_extra_args(false);
  const auto limit = [&](const char* name, const char* help, auto set) {
    command->add_option_function<double>(name, set, help)->check(real_number(0, 1e12));
  };
  limit("--min-bandwidth", "MB/s that a rank has to send in every collective",
        [options](double value) { options->limits.bandwidth = value * kMega; });
  limit("--min-storage", "MB/s that a rank has to write and read",
        [options](double value) { options->limits.storage_rate = value * kMega; });
  limit("--memory-slack", "MB that a step may take above the plan and a tenth (1000)",
        [options](double value) {
          options->limits.memory_slack = static_cast<int64_t>(value * kMega);
        });
  limit("--trial-seconds", "Most seconds from start to kill, and again to resume (600)",
        [options](double value) { options->limits.trial_seconds = value; });
  command->callback([options] { preflight(*options); });
}

}  // namespace lorikeet
