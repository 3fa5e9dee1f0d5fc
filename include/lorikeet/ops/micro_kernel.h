#pragma once
#include <c10/core/ScalarType.h>

#include <cstdint>

namespace lorikeet::ops {

/// Multiplies 64 x 512 by 512 x 64 so many times on every thread, random operands in cache, by the
/// product that the merged operators are made of: what they reach can be held against the time this
/// takes.
/// @param dtype fp32 or bf16
/// @return FLOP/s of all threads together; 0 where bf16 has no product of its own
double measure_micro_kernel(c10::ScalarType dtype, int64_t repetitions);

}  // namespace lorikeet::ops
