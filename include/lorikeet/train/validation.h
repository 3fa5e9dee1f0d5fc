#pragma once
#include <string>
#include <utility>
#include <vector>

#include "lorikeet/data/validation_set.h"
#include "lorikeet/model/language_model.h"

namespace lorikeet {

/// Mean loss a token, in nats, of each domain's held-out contexts, and `mean`: the mean over
/// domains.
using DomainLosses = std::vector<std::pair<std::string, double>>;

/// @param micro_batch contexts at once
DomainLosses validate(LanguageModel& model, const ValidationSet& set, int64_t micro_batch);

}  // namespace lorikeet
