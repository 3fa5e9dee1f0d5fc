#include "plan.h"

#include <algorithm>

#include "blocks.h"

namespace lorikeet::ops::cpu {

namespace {

int64_t padded(int64_t count) { return round_up(count, kWidthStep); }

void cut(int64_t row, int64_t length, int64_t column, int64_t step,
         std::vector<TokenBlock>& blocks) {
  for (int64_t begin = 0; begin < length; begin += step) {
    const int64_t count = std::min(step, length - begin);
    blocks.push_back({row + begin, count, column + begin, padded(count)});
  }
}

}  // namespace

Plan::Plan(at::IntArrayRef offsets) {
  for (size_t g = 0; g + 1 < offsets.size(); ++g) {
    const int64_t length = offsets[g + 1] - offsets[g];
    if (length == 0) continue;
    Segment segment{};
    segment.index = static_cast<int64_t>(g);
    segment.panel_begin = static_cast<int64_t>(panels.size());
    segment.strip_begin = static_cast<int64_t>(strips.size());
    cut(offsets[g], length, columns, level().pane, panels);
    cut(offsets[g], length, columns, kStrip, strips);
    segment.panel_end = static_cast<int64_t>(panels.size());
    segment.strip_end = static_cast<int64_t>(strips.size());
    segments.push_back(segment);
    columns += padded(length);
  }
}

int64_t padded_columns(at::IntArrayRef offsets) {
  int64_t columns = 0;
  for (size_t g = 0; g + 1 < offsets.size(); ++g) columns += padded(offsets[g + 1] - offsets[g]);
  return columns;
}

}  // namespace lorikeet::ops::cpu
