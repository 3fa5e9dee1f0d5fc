#pragma once
#include <cstdint>

namespace lorikeet::ops::cpu {

inline int64_t ceil_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up(int64_t a, int64_t step) { return ceil_divide(a, step) * step; }

/// Blocks of a width that are worked through one after the other, so that what is kept of them
/// between the two halves of a pass doesn't grow with it. All but the last are multiples of `step`.
struct OuterBlocks {
  OuterBlocks(int64_t width, int64_t largest, int64_t step)
      : size(round_up(ceil_divide(width, ceil_divide(width, largest)), step)),
        count(ceil_divide(width, size)) {}
  int64_t size, count;
};

}  // namespace lorikeet::ops::cpu
