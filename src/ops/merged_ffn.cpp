// lorikeet::merged_ffn as an operator: schema, argument checks, dispatch by device, autograd.
#include "lorikeet/ops/merged_ffn.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "merged_ffn_reference.h"

namespace lorikeet::ops {

namespace {

using at::Tensor;
using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

void check_arguments(const Tensor& x, at::IntArrayRef offsets, const Tensor& routing,
                     const Tensor& gate, const Tensor& up, const Tensor& down) {
  TORCH_CHECK(x.dim() == 2, "lorikeet::merged_ffn: x must be [N, D], not ", x.sizes());
  TORCH_CHECK(gate.dim() == 3, "lorikeet::merged_ffn: gate must be [E, F, D], not ", gate.sizes());
  const int64_t N = x.size(0), D = x.size(1), E = gate.size(0), F = gate.size(1);
  TORCH_CHECK(gate.size(2) == D, "lorikeet::merged_ffn: gate ", gate.sizes(),
              " does not end with D of x ", x.sizes());
  TORCH_CHECK(up.sizes() == gate.sizes(), "lorikeet::merged_ffn: up ", up.sizes(),
              " must have the shape of gate ", gate.sizes());
  TORCH_CHECK(down.sizes() == at::IntArrayRef({E, D, F}), "lorikeet::merged_ffn: down must be [", E,
              ", ", D, ", ", F, "], not ", down.sizes());
  TORCH_CHECK(!offsets.empty() && offsets.front() == 0 && offsets.back() == N,
              "lorikeet::merged_ffn: offsets must go from 0 to N = ", N, ", not ", offsets);
  TORCH_CHECK(std::is_sorted(offsets.begin(), offsets.end()),
              "lorikeet::merged_ffn: offsets must not decrease: ", offsets);
  const int64_t G = static_cast<int64_t>(offsets.size()) - 1;
  TORCH_CHECK(routing.sizes() == at::IntArrayRef({G, E}), "lorikeet::merged_ffn: routing must be [",
              G, ", ", E, "], not ", routing.sizes());
  const auto dtype = x.scalar_type();
  TORCH_CHECK(dtype == at::kFloat || dtype == at::kDouble || dtype == at::kBFloat16,
              "lorikeet::merged_ffn: x must be float32, float64 or bfloat16, not ", dtype);
  TORCH_CHECK(
      gate.scalar_type() == dtype && up.scalar_type() == dtype && down.scalar_type() == dtype,
      "lorikeet::merged_ffn: gate ", gate.scalar_type(), ", up ", up.scalar_type(), " and down ",
      down.scalar_type(), " must have the dtype of x, ", dtype);
  const auto routing_dtype = dtype == at::kDouble ? at::kDouble : at::kFloat;
  TORCH_CHECK(routing.scalar_type() == routing_dtype, "lorikeet::merged_ffn: routing must be ",
              routing_dtype, " for x ", dtype, ", not ", routing.scalar_type());
  for (const Tensor* other : {&routing, &gate, &up, &down}) {
    TORCH_CHECK(other->device() == x.device(), "lorikeet::merged_ffn: x is on ", x.device(),
                " but another argument on ", other->device());
  }
}

Tensor forward_any_device(const Tensor& x, at::IntArrayRef offsets, const Tensor& routing,
                          const Tensor& gate, const Tensor& up, const Tensor& down) {
  check_arguments(x, offsets, routing, gate, up, down);
  return merged_ffn_reference(x, offsets, routing, gate, up, down);
}

Gradients backward_any_device(const Tensor& dy, const Tensor& x, at::IntArrayRef offsets,
                              const Tensor& routing, const Tensor& gate, const Tensor& up,
                              const Tensor& down) {
  check_arguments(x, offsets, routing, gate, up, down);
  TORCH_CHECK(dy.sizes() == x.sizes() && dy.scalar_type() == x.scalar_type(),
              "lorikeet::merged_ffn_backward: dy ", dy.sizes(), " ", dy.scalar_type(),
              " must be as x ", x.sizes(), " ", x.scalar_type());
  return merged_ffn_backward_reference(dy, x, offsets, routing, gate, up, down);
}

Tensor forward_meta(const Tensor& x, at::IntArrayRef offsets, const Tensor& routing,
                    const Tensor& gate, const Tensor& up, const Tensor& down) {
  check_arguments(x, offsets, routing, gate, up, down);
  return at::empty_like(x, at::MemoryFormat::Contiguous);
}

Gradients backward_meta(const Tensor&, const Tensor& x, at::IntArrayRef, const Tensor& routing,
                        const Tensor& gate, const Tensor& up, const Tensor& down) {
  const auto like = [](const Tensor& t) { return at::empty_like(t, at::MemoryFormat::Contiguous); };
  return {like(x), like(routing), like(gate), like(up), like(down)};
}

using ForwardSignature = Tensor(const Tensor&, at::IntArrayRef, const Tensor&, const Tensor&,
                                const Tensor&, const Tensor&);
using BackwardSignature = Gradients(const Tensor&, const Tensor&, at::IntArrayRef, const Tensor&,
                                    const Tensor&, const Tensor&, const Tensor&);

template <class Signature>
auto find_operator(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

Tensor call_forward(const Tensor& x, at::IntArrayRef offsets, const Tensor& routing,
                    const Tensor& gate, const Tensor& up, const Tensor& down) {
  static const auto op = find_operator<ForwardSignature>("lorikeet::merged_ffn");
  return op.call(x, offsets, routing, gate, up, down);
}

Gradients call_backward(const Tensor& dy, const Tensor& x, at::IntArrayRef offsets,
                        const Tensor& routing, const Tensor& gate, const Tensor& up,
                        const Tensor& down) {
  static const auto op = find_operator<BackwardSignature>("lorikeet::merged_ffn_backward");
  return op.call(dy, x, offsets, routing, gate, up, down);
}

struct MergedFfn : torch::autograd::Function<MergedFfn> {
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& x,
                        at::IntArrayRef offsets, const Tensor& routing, const Tensor& gate,
                        const Tensor& up, const Tensor& down) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    context->save_for_backward({x, routing, gate, up, down});
    context->saved_data["offsets"] = offsets.vec();
    return call_forward(x, offsets, routing, gate, up, down);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    const auto saved = context->get_saved_variables();
    const auto offsets = context->saved_data["offsets"].toIntVector();
    auto [dx, drouting, dgate, dup, ddown] = call_backward(grads[0].contiguous(), saved[0], offsets,
                                                           saved[1], saved[2], saved[3], saved[4]);
    return {dx, Tensor(), drouting, dgate, dup, ddown};
  }
};

Tensor forward_autograd(const Tensor& x, at::IntArrayRef offsets, const Tensor& routing,
                        const Tensor& gate, const Tensor& up, const Tensor& down) {
  return MergedFfn::apply(x, offsets, routing, gate, up, down);
}

}  // namespace

Tensor merged_ffn(const Tensor& x, at::IntArrayRef offsets, const Tensor& routing,
                  const Tensor& gate, const Tensor& up, const Tensor& down) {
  return call_forward(x, offsets, routing, gate, up, down);
}

TORCH_LIBRARY(lorikeet, library) {
  library.def(
      "merged_ffn(Tensor x, int[] offsets, Tensor routing, Tensor gate, Tensor up, Tensor down)"
      " -> Tensor");
  library.def(
      "merged_ffn_backward(Tensor dy, Tensor x, int[] offsets, Tensor routing, Tensor gate,"
      " Tensor up, Tensor down) -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
}
TORCH_LIBRARY_IMPL(lorikeet, CPU, library) {
  library.impl("merged_ffn", forward_any_device);
  library.impl("merged_ffn_backward", backward_any_device);
}
TORCH_LIBRARY_IMPL(lorikeet, CUDA, library) {
  library.impl("merged_ffn", forward_any_device);
  library.impl("merged_ffn_backward", backward_any_device);
}
TORCH_LIBRARY_IMPL(lorikeet, Meta, library) {
  library.impl("merged_ffn", forward_meta);
  library.impl("merged_ffn_backward", backward_meta);
}
TORCH_LIBRARY_IMPL(lorikeet, Autograd, library) {
  library.impl("merged_ffn", forward_autograd);
  // Without this a double backward would silently give wrong gradients.
  library.impl("merged_ffn_backward", torch::autograd::autogradNotImplementedFallback());
}

}  // namespace lorikeet::ops
