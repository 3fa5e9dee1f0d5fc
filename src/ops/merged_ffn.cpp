// lorikeet::merged_ffn as an operator: schema, argument checks, dispatch by device, autograd.
#include "lorikeet/ops/merged_ffn.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "cpu/level.h"
#include "cpu/merged_ffn.h"
#include "cpu/plan.h"
#include "merged_ffn_reference.h"

namespace lorikeet::ops {

namespace {

using at::Tensor;
using cpu::Needed;
using Forward = std::tuple<Tensor, Tensor, Tensor>;  // y, and what backward wants of it
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
  const auto experts_dtype = gate.scalar_type();
  TORCH_CHECK((experts_dtype == dtype || (dtype == at::kBFloat16 && experts_dtype == at::kFloat)) &&
                  up.scalar_type() == experts_dtype && down.scalar_type() == experts_dtype,
              "lorikeet::merged_ffn: gate ", gate.scalar_type(), ", up ", up.scalar_type(),
              " and down ", down.scalar_type(), " must have the dtype of x, ", dtype,
              ", or all be float32 for x in bfloat16");
  const auto routing_dtype = dtype == at::kDouble ? at::kDouble : at::kFloat;
  TORCH_CHECK(routing.scalar_type() == routing_dtype, "lorikeet::merged_ffn: routing must be ",
              routing_dtype, " for x ", dtype, ", not ", routing.scalar_type());
  for (const Tensor* other : {&routing, &gate, &up, &down}) {
    TORCH_CHECK(other->device() == x.device(), "lorikeet::merged_ffn: x is on ", x.device(),
                " but another argument on ", other->device());
  }
}

/// Whether the tiled form of src/ops/cpu computes these arguments. fp64 is for checking only.
bool is_tiled(const Tensor& x, const Tensor& gate, bool reference) {
  // Not numel(), which tensors of symbolic sizes refuse.
  const bool has_numbers = x.size(0) > 0 && x.size(1) > 0 && gate.size(0) > 0 && gate.size(1) > 0;
  return !reference && x.scalar_type() != at::kDouble && !x.is_cuda() && has_numbers;
}

Forward forward_reference(const Tensor& x, at::IntArrayRef offsets, const Tensor& routing,
                          const Tensor& gate, const Tensor& up, const Tensor& down, bool, bool) {
  check_arguments(x, offsets, routing, gate, up, down);
  const Tensor nothing = at::empty({0}, x.options());
  return {merged_ffn_reference(x, offsets, routing, gate, up, down), nothing, nothing.clone()};
}

Forward forward_cpu(const Tensor& x, at::IntArrayRef offsets, const Tensor& routing,
                    const Tensor& gate, const Tensor& up, const Tensor& down, bool reference,
                    bool save) {
  check_arguments(x, offsets, routing, gate, up, down);
  if (!is_tiled(x, gate, reference) || cpu::level().kernels == nullptr) {
    return forward_reference(x, offsets, routing, gate, up, down, reference, save);
  }
  return cpu::merged_ffn_forward(x.contiguous(), offsets, routing.contiguous(), gate.contiguous(),
                                 up.contiguous(), down.contiguous(), save);
}

Forward forward_meta(const Tensor& x, at::IntArrayRef offsets, const Tensor& routing,
                     const Tensor& gate, const Tensor& up, const Tensor& down, bool reference,
                     bool save) {
  check_arguments(x, offsets, routing, gate, up, down);
  const int64_t saved =
      save && is_tiled(x, gate, reference) ? gate.size(1) * cpu::padded_columns(offsets) : 0;
  return {at::empty_like(x, at::MemoryFormat::Contiguous), at::empty({saved}, x.options()),
          at::empty({saved}, x.options())};
}

void check_gradient(const Tensor& dy, const Tensor& x) {
  TORCH_CHECK(dy.sizes() == x.sizes() && dy.scalar_type() == x.scalar_type(),
              "lorikeet::merged_ffn_backward: dy ", dy.sizes(), " ", dy.scalar_type(),
              " must be as x ", x.sizes(), " ", x.scalar_type());
}

Gradients backward_reference(const Tensor& dy, const Tensor& x, at::IntArrayRef offsets,
                             const Tensor& routing, const Tensor& gate, const Tensor& up,
                             const Tensor& down, const Tensor&, const Tensor&, Needed needed) {
  check_arguments(x, offsets, routing, gate, up, down);
  check_gradient(dy, x);
  auto [dx, drouting, dgate, dup, ddown] =
      merged_ffn_backward_reference(dy, x, offsets, routing, gate, up, down);
  const auto asked = [&](size_t i, const Tensor& t) { return needed[i] ? t : Tensor(); };
  return {asked(0, dx), asked(1, drouting), asked(2, dgate), asked(3, dup), asked(4, ddown)};
}

Gradients backward_cpu(const Tensor& dy, const Tensor& x, at::IntArrayRef offsets,
                       const Tensor& routing, const Tensor& gate, const Tensor& up,
                       const Tensor& down, const Tensor& a, const Tensor& b, Needed needed) {
  if (a.numel() == 0) {
    return backward_reference(dy, x, offsets, routing, gate, up, down, a, b, needed);
  }
  check_arguments(x, offsets, routing, gate, up, down);
  check_gradient(dy, x);
  const int64_t saved = gate.size(1) * cpu::padded_columns(offsets);
  TORCH_CHECK(a.numel() == saved && b.numel() == saved && a.scalar_type() == x.scalar_type(),
              "lorikeet::merged_ffn_backward: a and b must be what merged_ffn_forward saved");
  const auto [dx, drouting, dgate, dup, ddown] =
      cpu::merged_ffn_backward(dy.contiguous(), x.contiguous(), offsets, routing.contiguous(),
                               gate.contiguous(), up.contiguous(), down.contiguous(), a, b, needed);
  return {dx, drouting, dgate, dup, ddown};
}

Gradients backward_meta(const Tensor&, const Tensor& x, at::IntArrayRef, const Tensor& routing,
                        const Tensor& gate, const Tensor& up, const Tensor& down, const Tensor&,
                        const Tensor&, Needed needed) {
  const auto like = [&](size_t i, const Tensor& t) {
    return needed[i] ? at::empty_like(t, at::MemoryFormat::Contiguous) : Tensor();
  };
  return {like(0, x), like(1, routing), like(2, gate), like(3, up), like(4, down)};
}

using Signature = Tensor(const Tensor&, at::IntArrayRef, const Tensor&, const Tensor&,
                         const Tensor&, const Tensor&, bool);

template <class Function>
auto find_operator(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Function>();
}

Forward call_forward(const Tensor& x, at::IntArrayRef offsets, const Tensor& routing,
                     const Tensor& gate, const Tensor& up, const Tensor& down, bool reference,
                     bool save) {
  static const auto op = find_operator<decltype(forward_meta)>("lorikeet::merged_ffn_forward");
  return op.call(x, offsets, routing, gate, up, down, reference, save);
}

struct MergedFfn : torch::autograd::Function<MergedFfn> {
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& x,
                        at::IntArrayRef offsets, const Tensor& routing, const Tensor& gate,
                        const Tensor& up, const Tensor& down, bool reference, bool save) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    const auto [y, a, b] = call_forward(x, offsets, routing, gate, up, down, reference, save);
    if (save) {
      context->save_for_backward({x, routing, gate, up, down, a, b});
      context->saved_data["offsets"] = offsets.vec();
    }
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    static const auto op = find_operator<decltype(backward_meta)>("lorikeet::merged_ffn_backward");
    const auto saved = context->get_saved_variables();
    const auto offsets = context->saved_data["offsets"].toIntVector();
    Needed needed{};  // counted among the arguments that are tensors
    for (size_t i = 0; i < needed.size(); ++i) needed[i] = context->needs_input_grad(i);
    auto [dx, drouting, dgate, dup, ddown] =
        op.call(grads[0].contiguous(), saved[0], offsets, saved[1], saved[2], saved[3], saved[4],
                saved[5], saved[6], needed);
    return {dx, Tensor(), drouting, dgate, dup, ddown, Tensor(), Tensor()};
  }
};

Tensor merged_ffn_autograd(const Tensor& x, at::IntArrayRef offsets, const Tensor& routing,
                           const Tensor& gate, const Tensor& up, const Tensor& down,
                           bool reference) {
  bool save = false;
  for (const Tensor* t : {&x, &routing, &gate, &up, &down}) save = save || t->requires_grad();
  save = save && at::GradMode::is_enabled();
  return MergedFfn::apply(x, offsets, routing, gate, up, down, reference, save);
}

Tensor merged_ffn_without_graph(const Tensor& x, at::IntArrayRef offsets, const Tensor& routing,
                                const Tensor& gate, const Tensor& up, const Tensor& down,
                                bool reference) {
  return std::get<0>(call_forward(x, offsets, routing, gate, up, down, reference, /*save=*/false));
}

}  // namespace

Tensor merged_ffn(const Tensor& x, at::IntArrayRef offsets, const Tensor& routing,
                  const Tensor& gate, const Tensor& up, const Tensor& down, bool reference) {
  static const auto op = find_operator<Signature>("lorikeet::merged_ffn");
  return op.call(x, offsets, routing, gate, up, down, reference);
}

TORCH_LIBRARY(lorikeet, library) {
  library.def(
      "merged_ffn(Tensor x, int[] offsets, Tensor routing, Tensor gate, Tensor up, Tensor down,"
      " bool reference=False) -> Tensor");
  library.def(
      "merged_ffn_forward(Tensor x, int[] offsets, Tensor routing, Tensor gate, Tensor up,"
      " Tensor down, bool reference, bool save) -> (Tensor, Tensor, Tensor)");
  library.def(
      "merged_ffn_backward(Tensor dy, Tensor x, int[] offsets, Tensor routing, Tensor gate,"
      " Tensor up, Tensor down, Tensor a, Tensor b, bool[5] needed)"
      " -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
}
TORCH_LIBRARY_IMPL(lorikeet, CPU, library) {
  library.impl("merged_ffn", merged_ffn_without_graph);
  library.impl("merged_ffn_forward", forward_cpu);
  library.impl("merged_ffn_backward", backward_cpu);
}
TORCH_LIBRARY_IMPL(lorikeet, CUDA, library) {
  library.impl("merged_ffn", merged_ffn_without_graph);
  library.impl("merged_ffn_forward", forward_reference);
  library.impl("merged_ffn_backward", backward_reference);
}
TORCH_LIBRARY_IMPL(lorikeet, Meta, library) {
  library.impl("merged_ffn", merged_ffn_without_graph);
  library.impl("merged_ffn_forward", forward_meta);
  library.impl("merged_ffn_backward", backward_meta);
}
TORCH_LIBRARY_IMPL(lorikeet, Autograd, library) {
  library.impl("merged_ffn", merged_ffn_autograd);
  // Without these a double backward would silently give wrong gradients.
  library.impl("merged_ffn_forward", torch::autograd::autogradNotImplementedFallback());
  library.impl("merged_ffn_backward", torch::autograd::autogradNotImplementedFallback());
}

}  // namespace lorikeet::ops
