#include "workspace.h"

#include <algorithm>
#include <atomic>

#include "lorikeet/ops/workspace.h"

namespace lorikeet::ops {

namespace {
std::atomic<int64_t> forward_bytes{0}, backward_bytes{0};
}

int64_t tiled_workspace_bytes(bool backward) { return backward ? backward_bytes : forward_bytes; }

int64_t tiled_workspace_bound(int64_t tokens, int64_t D, int64_t F, int64_t E, int64_t bytes,
                              int64_t threads) {
  constexpr int64_t kOuter = 704;  // the larger of the two passes' blocks
  return 3 * E * D * F * bytes / 8 + threads * (int64_t{2} << 20) +
         tokens * (4 * D + 16 * std::min(F, kOuter));
}

void cpu::record_workspace(bool backward, int64_t bytes) {
  (backward ? backward_bytes : forward_bytes) = bytes;
}

}  // namespace lorikeet::ops
