// N rows, D numbers in each, G segments.
#include "ragged_mean.h"

#include <ATen/ATen.h>
#include <ATen/OpMathType.h>
#include <torch/csrc/autograd/custom_function.h>

#include "lorikeet/ops/to_device.h"

namespace lorikeet::ops {

namespace {

using at::Tensor;

/// Rows of each segment [G].
Tensor lengths_of(at::IntArrayRef offsets, const at::Device& device) {
  const Tensor host = at::empty({static_cast<int64_t>(offsets.size()) - 1}, at::kLong);
  for (int64_t g = 0; g < host.size(0); ++g) {
    host.data_ptr<int64_t>()[g] = offsets[g + 1] - offsets[g];
  }
  return to_device(host, device);
}

struct RaggedMean : torch::autograd::Function<RaggedMean> {
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& x,
                        at::IntArrayRef offsets) {
    const Tensor lengths = lengths_of(offsets, x.device());
    context->save_for_backward({lengths});
    context->saved_data["rows"] = x.size(0);
    context->saved_data["dtype"] = x.scalar_type();
    return at::segment_reduce(x.to(at::toOpMathType(x.scalar_type())), "mean", lengths,
                              /*indices=*/{}, /*offsets=*/{}, /*axis=*/0, /*unsafe=*/true);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const Tensor lengths = context->get_saved_variables()[0];
    const Tensor of_row_GD =
        (gradients[0] / lengths.unsqueeze(1)).to(context->saved_data["dtype"].toScalarType());
    return {of_row_GD.repeat_interleave(lengths, 0, context->saved_data["rows"].toInt()), Tensor()};
  }
};

}  // namespace

Tensor ragged_mean(const Tensor& x, at::IntArrayRef offsets) {
  return RaggedMean::apply(x, offsets);
}

}  // namespace lorikeet::ops
