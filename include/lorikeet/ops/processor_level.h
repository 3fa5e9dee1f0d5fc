#pragma once
#include <string>

namespace lorikeet::ops {

/// What is wrong with the level of processor that the environment variable LORIKEET_CPU asks for;
/// empty where nothing is, or it isn't set. Without this check the first merged operator throws.
std::string processor_level_problem();

/// Whether the CPU's operators multiply bf16 in fp32, straight from fp32 weights (linear.h): at
/// that level of processor there are no instructions for bf16.
bool widens_bf16();

}  // namespace lorikeet::ops
