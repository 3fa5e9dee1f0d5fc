#pragma once
#include <vector>

#include "lorikeet/model/language_model.h"
#include "lorikeet/parallel/sharded_parameters.h"

namespace lorikeet {

/// The model's parameters by the units that LanguageModelImpl announces to a UnitSchedule: the
/// embedding; each block; the final norm with the head (with tied embeddings these belong to unit
/// 0). Groups: matrices, vectors, and the routers' matrices and vectors apart, since a router
/// starts anew where a dense warm-up ends.
std::vector<ParameterUnit> parameter_units(const LanguageModelImpl& model);

}  // namespace lorikeet
