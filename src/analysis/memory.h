#pragma once
#include "lorikeet/analysis/plan.h"

namespace lorikeet {

MemoryPlan plan_memory(const RunConfig& config, const ParameterCount& parameters);

}  // namespace lorikeet
