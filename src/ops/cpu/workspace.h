#pragma once
#include <cstdint>

namespace lorikeet::ops::cpu {

/// Keeps what tiled_workspace_bytes (lorikeet/ops/workspace.h) answers.
void record_workspace(bool backward, int64_t bytes);
/// And tiled_saved_bytes.
void record_saved(int64_t bytes);

}  // namespace lorikeet::ops::cpu
