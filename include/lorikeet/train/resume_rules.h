#pragma once
#include <string>

#include "lorikeet/config/run_config.h"

namespace lorikeet {

/// What may change when a run is resumed: anything about how long, how fast, on what and how
/// visibly it trains. What may not: what makes its model, its data and its course up to here
/// (docs/running.md lists the keys).
/// @param saved_yaml the configuration in the checkpoint
/// @throws Error(kUsage) naming every key that may not change, with both values
void check_resumable(const std::string& saved_yaml, const RunConfig& config);

}  // namespace lorikeet
