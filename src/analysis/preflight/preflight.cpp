// The order of the checks, and what skips what.
#include "lorikeet/analysis/preflight.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include "checks.h"
#include "lorikeet/analysis/plan.h"
#include "lorikeet/core/error.h"
#include "lorikeet/train/device.h"
#include "lorikeet/train/run_folder.h"

namespace lorikeet {

namespace {

/// As the ranks that were launched divide it, on the device that they have.
RunConfig as_launched(RunConfig config, World& world) {
  const MeshShape& shape = world.mesh().shape();
  config.parallel.replicate = world.size() / config.parallel.shard;
  config.parallel.zero = shape.shard > 1 ? config.parallel.zero : 0;
  config.train.device = world.device().is_cuda() ? DeviceChoice::kCuda : DeviceChoice::kCpu;
  return config;
}

/// The trials would take its memory and its disk, and it theirs.
void require_no_run(const RunConfig& config, World& world) {
  const std::string folder = config.output + "/" + config.name;
  const bool is_held = world.is_first() && RunFolder::is_held(folder);
  if (world.exchange().gather(is_held ? "held" : "").front().empty()) return;
  if (!world.is_first()) throw Error(ExitCode::kUsage, "");  // the first rank says it
  throw Error(ExitCode::kUsage,
              fmt::format("preflight: {}: a process is training in this folder", folder),
              "wait until it has ended, or give this run another `name` or `output`");
}

}  // namespace

PreflightReport preflight(const RunConfig& config, World& world, const PreflightOptions& options) {
  require_no_run(config, world);
  set_up_computation(config.train);
  Checklist list(world.exchange());
  list.add(check_layout(config, world.size()));
  if (!check_agreement(list, config, world, options.code_version)) {
    list.add({.name = "everything else",
              .verdict = Verdict::kSkipped,
              .figure = "the ranks would wait for each other"});
    return list.report();
  }
  const c10::Device device = world.device();
  check_operators(list, config.model, device);
  check_first_step(list, config, device);
  check_collectives(list, config, world, options.limits);
  const bool has_room = check_storage(list, config, world, options.limits);
  release_cached_memory(device);  // the children use the same GPU
  if (has_room) {
    const RunConfig launched = as_launched(config, world);
    check_trial(list, run_trial(config, world.exchange(), options), launched, plan_run(launched),
                options.limits);
  } else {
    list.add({.name = "kill and resume, memory, speed",
              .verdict = Verdict::kSkipped,
              .figure = "no room for checkpoints"});
  }
  return list.report();
}

}  // namespace lorikeet
