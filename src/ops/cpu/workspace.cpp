#include "workspace.h"

#include <algorithm>
#include <atomic>

#include "blocks.h"
#include "lorikeet/ops/workspace.h"

namespace lorikeet::ops {

namespace {
std::atomic<int64_t> forward_bytes{0}, backward_bytes{0}, saved_bytes{0};
}

int64_t tiled_workspace_bytes(bool backward) { return backward ? backward_bytes : forward_bytes; }

int64_t tiled_workspace_bound(int64_t tokens, int64_t D, int64_t F, int64_t E, int64_t bytes,
                              int64_t threads) {
  return 3 * E * D * F * bytes / 8 + threads * (int64_t{2} << 20) +
         tokens * (4 * D + 16 * std::min(F, std::max(cpu::kForwardOuter, cpu::kBackwardOuter)));
}

int64_t tiled_saved_bytes() { return saved_bytes; }

void cpu::record_saved(int64_t bytes) { saved_bytes = bytes; }

void cpu::record_workspace(bool backward, int64_t bytes) {
  (backward ? backward_bytes : forward_bytes) = bytes;
}

}  // namespace lorikeet::ops
