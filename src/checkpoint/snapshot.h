#pragma once
#include <exception>
#include <string>

#include "lorikeet/checkpoint/content.h"

namespace lorikeet::checkpoint {

/// This rank's part of what is to be saved, its tensors contiguous and on the CPU; or why there is
/// none, which the saving tells the other ranks.
struct Snapshot {
  CheckpointContent content;
  std::exception_ptr failure;
  /// Where the tensors were moved to a local disk: part_text() of what was in memory, which what is
  /// read back must match. Else empty.
  std::string part;
};

/// Throws nothing. Its failure is an Error(kInternal) for a piece without values or outside of its
/// tensor.
/// @param is_copied  whether what is on the CPU already is copied too
Snapshot take_snapshot(const CheckpointContent& content, bool is_copied);

}  // namespace lorikeet::checkpoint
