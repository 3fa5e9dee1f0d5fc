#pragma once
#include <ATen/core/Tensor.h>

namespace lorikeet::ops {

/// Takes gradients of fp32 weights where they are made: the CPU's tiled operators write them
/// straight to where the optimizer reads them, and autograd gets none. Without one each gradient is
/// made in fresh memory, read, and written once more.
class GradientSink {
 public:
  virtual ~GradientSink() = default;
  /// @param weight  a parameter, or a view of all of it
  /// @return where its gradient is to be written, contiguous in the weight's shape; null: autograd
  /// takes it
  virtual float* place_of(const at::Tensor& weight) = 0;
  /// The weight's gradient is there, all of it.
  virtual void written(const at::Tensor& weight) = 0;
};

/// The sink of this thread, which is the one that runs backward on a CPU; null: none.
GradientSink* gradient_sink();
/// Sets it. @return the one before
GradientSink* set_gradient_sink(GradientSink* sink);

}  // namespace lorikeet::ops
