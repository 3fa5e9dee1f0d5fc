#pragma once
#include <cstdint>

namespace lorikeet::ops::cpu {

inline int64_t ceil_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up(int64_t a, int64_t step) { return ceil_divide(a, step) * step; }

/// Numbers of tokens that are multiplied together are multiples of it. So products come in few
/// shapes: ATen keeps a compiled micro-kernel for each one, on each thread, for ever.
inline constexpr int64_t kWidthStep = 16;

/// Features of F that are worked through at once, at most, by merged_ffn's forward and backward: h,
/// or da, db and h, of all tokens stand in memory meanwhile.
inline constexpr int64_t kForwardOuter = 704, kBackwardOuter = 384;

/// Blocks of a width that are worked through one after the other, so that what is kept of them
/// between the two halves of a pass doesn't grow with it. All but the last are multiples of `step`.
struct OuterBlocks {
  OuterBlocks(int64_t width, int64_t largest, int64_t step)
      : size(round_up(ceil_divide(width, ceil_divide(width, largest)), step)),
        count(ceil_divide(width, size)) {}
  int64_t size, count;
};

}  // namespace lorikeet::ops::cpu
