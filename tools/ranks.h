#pragma once
#include <memory>

#include "lorikeet/config/run_config.h"
#include "lorikeet/parallel/launch.h"
#include "lorikeet/parallel/world.h"

namespace lorikeet {

/// The ranks that a launcher has started; null for one process. Ranks but the first log warnings
/// alone. Ends the process where they do not meet.
std::shared_ptr<World> meet_ranks(const LaunchEnvironment& environment, const RunConfig& config);

/// Ends a rank that has failed, with whatever is being handled as its message: it must not wait for
/// the others, since threads may hang in a collective that will never end.
[[noreturn]] void leave_failed(World& world);

}  // namespace lorikeet
