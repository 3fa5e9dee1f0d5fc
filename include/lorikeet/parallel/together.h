#pragma once
#include <functional>
#include <string>
#include <vector>

#include "lorikeet/parallel/exchange.h"

namespace lorikeet {

/// Runs `action` on every rank; what it throws on one rank is thrown on all of them, with that
/// rank's number, so that all go the same way afterwards. With one rank it is only called.
/// @param at  what is being done: ranks that call for different things are an Error(kInternal)
/// @return what `action` returned, by rank
/// @throws Error with the code and hint of the first rank that failed (of those failures that are
/// not an Error(kCheckpoint), where there are some: trying again does not help them)
std::vector<std::string> together(Exchange& ranks, const std::string& at,
                                  const std::function<std::string()>& action);

}  // namespace lorikeet
