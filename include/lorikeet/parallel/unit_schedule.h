#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

namespace lorikeet {

/// What a module calls around the parts of its forward pass (its units: embedding, each block, the
/// head) so that their parameters are there when they are needed and not before. Units are used in
/// the order of their numbers.
class UnitSchedule {
 public:
  virtual ~UnitSchedule() = default;
  virtual void before_forward(int64_t unit) = 0;
  /// @param output  of the unit; its gradient announces the unit's backward pass
  virtual void after_forward(int64_t unit, const at::Tensor& output) = 0;
};

}  // namespace lorikeet
