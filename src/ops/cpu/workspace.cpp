#include <atomic>

#include "lorikeet/ops/merged_ffn.h"
#include "merged_ffn.h"

namespace lorikeet::ops {

namespace {
std::atomic<int64_t> forward_bytes{0}, backward_bytes{0};
}

int64_t merged_ffn_workspace_bytes(bool backward) {
  return backward ? backward_bytes : forward_bytes;
}

void cpu::record_workspace(bool backward, int64_t bytes) {
  (backward ? backward_bytes : forward_bytes) = bytes;
}

}  // namespace lorikeet::ops
