#pragma once
#include <string>
#include <utility>
#include <vector>

#include "lorikeet/data/validation_set.h"
#include "lorikeet/model/language_model.h"
#include "lorikeet/parallel/world.h"

namespace lorikeet {

/// Mean loss a token, in nats, of each domain's held-out contexts, and `mean`: the mean over
/// domains.
using DomainLosses = std::vector<std::pair<std::string, double>>;

/// @param micro_batch contexts at once
/// @param world  ranks that share the work; all get the losses, the same as one rank would find
DomainLosses validate(LanguageModel& model, const ValidationSet& set, int64_t micro_batch,
                      World& world);

}  // namespace lorikeet
