#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "level.h"

namespace lorikeet::ops::cpu {

/// Some tokens of one segment. `column` counts tokens too, but every panel's padding with them.
struct TokenBlock {
  int64_t row, count;
  int64_t column, width;  ///< width: count rounded up to kWidthStep
};

struct Segment {
  int64_t index;  ///< among all segments, empty ones too
  int64_t panel_begin, panel_end;
  int64_t strip_begin, strip_end;
};

/// How tokens are cut. A panel, one pane wide (level.h), is the right operand of forward's
/// products; a strip, up to kStrip tokens, is the depth of the products that sum over tokens.
/// Widths are multiples of kWidthStep.
struct Plan {
  static constexpr int64_t kWidestPanel = kWidestPane, kStrip = 256;

  explicit Plan(at::IntArrayRef offsets);

  std::vector<Segment> segments;  ///< those that have tokens
  std::vector<TokenBlock> panels, strips;
  int64_t columns = 0;  ///< tokens with padding
};

/// Plan::columns alone.
int64_t padded_columns(at::IntArrayRef offsets);

}  // namespace lorikeet::ops::cpu
