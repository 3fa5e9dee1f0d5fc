#include "tools/ranks.h"

#include <chrono>
#include <cstdlib>

#include "lorikeet/core/error.h"
#include "lorikeet/core/log.h"
#include "lorikeet/train/device.h"
#include "tools/report.h"

namespace lorikeet {

std::shared_ptr<World> meet_ranks(const LaunchEnvironment& environment, const RunConfig& config) {
  if (environment.world_size == 1) return nullptr;
  if (environment.rank > 0) set_log_level(LogLevel::kWarning);
  const c10::Device device = select_device(config.train.device, environment.local_rank);
  try {
    return World::meet(environment, config.parallel, device);
  } catch (...) {  // a thread may hang in a connection, and must not see the process taken apart
    std::_Exit(report_current_exception(/*is_verbose=*/false));
  }
}

void leave_failed(World& world) {
  const int code = report_current_exception(/*is_verbose=*/false);
  // Where all end for one reason, all are to hear of it.
  if (code != static_cast<int>(ExitCode::kCommunication)) world.part(std::chrono::seconds(3));
  std::_Exit(code);
}

}  // namespace lorikeet
