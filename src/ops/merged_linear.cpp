// lorikeet::merged_linear as an operator: schema, argument checks, dispatch by device, autograd.
#include "lorikeet/ops/merged_linear.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "check_arguments.h"
#include "cpu/merged_linear.h"
#include "find_operator.h"
#include "merged_reference.h"

namespace lorikeet::ops {

namespace {

using at::Tensor;
using Needed = std::array<bool, 3>;  // gradients of x, routing and weight
using Gradients = std::tuple<Tensor, Tensor, Tensor>;

constexpr const char* kForward = "lorikeet::merged_linear";
constexpr const char* kBackward = "lorikeet::merged_linear_backward";

void check_arguments(const Tensor& x, at::IntArrayRef offsets, const Tensor& routing,
                     const Tensor& weight) {
  TORCH_CHECK(x.dim() == 2, kForward, ": x must be [N, I], not ", x.sizes());
  TORCH_CHECK(weight.dim() == 3, kForward, ": weight must be [E, O, I], not ", weight.sizes());
  TORCH_CHECK(weight.size(2) == x.size(1), kForward, ": weight ", weight.sizes(),
              " does not end with I of x ", x.sizes());
  check_merged_arguments(kForward, x, offsets, routing, {{"weight", weight}});
}

void check_backward(const Tensor& dy, const Tensor& x, at::IntArrayRef offsets,
                    const Tensor& routing, const Tensor& weight) {
  check_arguments(x, offsets, routing, weight);
  check_result_gradient(kBackward, dy, {x.size(0), weight.size(1)}, x.scalar_type());
}

Tensor forward_reference(const Tensor& x, at::IntArrayRef offsets, const Tensor& routing,
                         const Tensor& weight, bool) {
  check_arguments(x, offsets, routing, weight);
  return merged_linear_reference(x, offsets, routing, weight);
}

Tensor forward_cpu(const Tensor& x, at::IntArrayRef offsets, const Tensor& routing,
                   const Tensor& weight, bool reference) {
  check_arguments(x, offsets, routing, weight);
  if (!is_tiled(x, weight, reference)) {
    return merged_linear_reference(x, offsets, routing, weight);
  }
  return cpu::merged_linear_forward(x.contiguous(), offsets, routing.contiguous(),
                                    weight.contiguous());
}

Tensor forward_meta(const Tensor& x, at::IntArrayRef offsets, const Tensor& routing,
                    const Tensor& weight, bool) {
  check_arguments(x, offsets, routing, weight);
  return at::empty({x.size(0), weight.size(1)}, x.options());
}

Gradients backward_reference(const Tensor& dy, const Tensor& x, at::IntArrayRef offsets,
                             const Tensor& routing, const Tensor& weight, bool, Needed needed) {
  check_backward(dy, x, offsets, routing, weight);
  auto [dx, drouting, dweight] = merged_linear_backward_reference(dy, x, offsets, routing, weight);
  return {needed[0] ? dx : Tensor(), needed[1] ? drouting : Tensor(),
          needed[2] ? dweight : Tensor()};
}

Gradients backward_cpu(const Tensor& dy, const Tensor& x, at::IntArrayRef offsets,
                       const Tensor& routing, const Tensor& weight, bool reference, Needed needed) {
  if (!is_tiled(x, weight, reference)) {
    return backward_reference(dy, x, offsets, routing, weight, reference, needed);
  }
  check_backward(dy, x, offsets, routing, weight);
  const auto [dx, drouting, dweight] = cpu::merged_linear_backward(
      dy.contiguous(), x.contiguous(), offsets, routing.contiguous(), weight.contiguous(), needed);
  return {dx, drouting, dweight};
}

Gradients backward_meta(const Tensor&, const Tensor& x, at::IntArrayRef, const Tensor& routing,
                        const Tensor& weight, bool, Needed needed) {
  const auto like = [&](size_t i, const Tensor& t) {
    return needed[i] ? at::empty_like(t, at::MemoryFormat::Contiguous) : Tensor();
  };
  return {like(0, x), like(1, routing), like(2, weight)};
}

struct MergedLinear : torch::autograd::Function<MergedLinear> {
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& x,
                        at::IntArrayRef offsets, const Tensor& routing, const Tensor& weight,
                        bool reference) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    context->save_for_backward({x, routing, weight});
    context->saved_data["offsets"] = offsets.vec();
    context->saved_data["reference"] = reference;
    return merged_linear(x, offsets, routing, weight, reference);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    static const auto op = find_operator<decltype(backward_meta)>(kBackward);
    const auto saved = context->get_saved_variables();
    Needed needed{};  // counted among the arguments that are tensors
    for (size_t i = 0; i < needed.size(); ++i) needed[i] = context->needs_input_grad(i);
    auto [dx, drouting, dweight] =
        op.call(grads[0].contiguous(), saved[0], context->saved_data["offsets"].toIntVector(),
                saved[1], saved[2], context->saved_data["reference"].toBool(), needed);
    return {dx, Tensor(), drouting, dweight, Tensor()};
  }
};

Tensor merged_linear_autograd(const Tensor& x, at::IntArrayRef offsets, const Tensor& routing,
                              const Tensor& weight, bool reference) {
  return MergedLinear::apply(x, offsets, routing, weight, reference);
}

}  // namespace

Tensor merged_linear(const Tensor& x, at::IntArrayRef offsets, const Tensor& routing,
                     const Tensor& weight, bool reference) {
  static const auto op = find_operator<decltype(forward_meta)>(kForward);
  return op.call(x, offsets, routing, weight, reference);
}

TORCH_LIBRARY_FRAGMENT(lorikeet, library) {
  library.def(
      "merged_linear(Tensor x, int[] offsets, Tensor routing, Tensor weight,"
      " bool reference=False) -> Tensor");
  library.def(
      "merged_linear_backward(Tensor dy, Tensor x, int[] offsets, Tensor routing, Tensor weight,"
      " bool reference, bool[3] needed) -> (Tensor, Tensor, Tensor)");
}
TORCH_LIBRARY_IMPL(lorikeet, CPU, library) {
  library.impl("merged_linear", forward_cpu);
  library.impl("merged_linear_backward", backward_cpu);
}
TORCH_LIBRARY_IMPL(lorikeet, CUDA, library) {
  library.impl("merged_linear", forward_reference);
  library.impl("merged_linear_backward", backward_reference);
}
TORCH_LIBRARY_IMPL(lorikeet, Meta, library) {
  library.impl("merged_linear", forward_meta);
  library.impl("merged_linear_backward", backward_meta);
}
TORCH_LIBRARY_IMPL(lorikeet, Autograd, library) {
  library.impl("merged_linear", merged_linear_autograd);
  // Without this a double backward would silently give wrong gradients.
  library.impl("merged_linear_backward", torch::autograd::autogradNotImplementedFallback());
}

}  // namespace lorikeet::ops
