#pragma once
#include <string>

namespace lorikeet::ops {

/// What is wrong with the level of processor that the environment variable LORIKEET_CPU asks for;
/// empty where nothing is, or it isn't set. Without this check the first merged operator throws.
std::string processor_level_problem();

}  // namespace lorikeet::ops
