// lorikeet::merged_ffn as an operator: schema, argument checks, dispatch by device, autograd.
#include "lorikeet/ops/merged_ffn.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <atomic>

#include "check_arguments.h"
#include "cpu/merged_ffn.h"
#include "cpu/plan.h"
#include "cuda/batched.h"
#include "cuda/geometry.h"
#include "cuda/hook.h"
#include "find_operator.h"
#include "merged_reference.h"

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
  const int64_t D = x.size(1), E = gate.size(0), F = gate.size(1);
  TORCH_CHECK(gate.size(2) == D, "lorikeet::merged_ffn: gate ", gate.sizes(),
              " does not end with D of x ", x.sizes());
  TORCH_CHECK(up.sizes() == gate.sizes(), "lorikeet::merged_ffn: up ", up.sizes(),
              " must have the shape of gate ", gate.sizes());
  TORCH_CHECK(down.sizes() == at::IntArrayRef({E, D, F}), "lorikeet::merged_ffn: down must be [", E,
              ", ", D, ", ", F, "], not ", down.sizes());
  check_merged_arguments("lorikeet::merged_ffn", x, offsets, routing,
                         {{"gate", gate}, {"up", up}, {"down", down}});
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
  if (!is_tiled(x, gate, reference)) {
    return forward_reference(x, offsets, routing, gate, up, down, reference, save);
  }
  return cpu::merged_ffn_forward(x.contiguous(), offsets, routing.contiguous(), gate.contiguous(),
                                 up.contiguous(), down.contiguous(), save);
}

/// How CUDA tensors are computed.
enum class CudaWay { reference, batched, kernels };

std::atomic<bool> kernels_are_off{false};  // WithBatchedProducts

CudaWay cuda_way(const Tensor& x, at::IntArrayRef offsets, const Tensor& gate) {
  if (x.scalar_type() == at::kDouble || x.size(0) == 0) return CudaWay::reference;
  const bool has_kernels =
      cuda::merged_ffn() != nullptr && !kernels_are_off && x.scalar_type() == at::kBFloat16 &&
      cuda::is_supported(cuda::gpu_at(x.device()), x.size(1), gate.size(1), gate.size(0),
                         static_cast<int64_t>(offsets.size()) - 1);
  return has_kernels ? CudaWay::kernels : CudaWay::batched;
}

Forward forward_cuda(const Tensor& x, at::IntArrayRef offsets, const Tensor& routing,
                     const Tensor& gate, const Tensor& up, const Tensor& down, bool reference,
                     bool save) {
  check_arguments(x, offsets, routing, gate, up, down);
  const CudaWay way = cuda_way(x, offsets, gate);
  if (reference || way == CudaWay::reference) {
    return forward_reference(x, offsets, routing, gate, up, down, reference, save);
  }
  if (way == CudaWay::batched) {
    return cuda::batched_forward(cuda::gpu_at(x.device()), x, offsets, routing, gate, up, down,
                                 save);
  }
  return cuda::merged_ffn()->forward(x, offsets, routing, gate, up, down, save);
}

Forward forward_meta(const Tensor& x, at::IntArrayRef offsets, const Tensor& routing,
                     const Tensor& gate, const Tensor& up, const Tensor& down, bool reference,
                     bool save) {
  check_arguments(x, offsets, routing, gate, up, down);
  int64_t saved = 0;
  if (save && is_tiled(x, gate, reference)) saved = gate.size(1) * cpu::padded_columns(offsets);
  return {at::empty_like(x, at::MemoryFormat::Contiguous), at::empty({saved}, x.options()),
          at::empty({saved}, x.options())};
}

void check_gradient(const Tensor& dy, const Tensor& x) {
  check_result_gradient("lorikeet::merged_ffn_backward", dy, x.sizes(), x.scalar_type());
}

/// @param size  elements that forward saves of each of a and b
void check_saved(const Tensor& a, const Tensor& b, const Tensor& x, int64_t size) {
  for (const Tensor* saved : {&a, &b}) {
    TORCH_CHECK(saved->numel() == size && saved->scalar_type() == x.scalar_type(),
                "lorikeet::merged_ffn_backward: a and b must be what merged_ffn_forward saved");
  }
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
  check_saved(a, b, x, gate.size(1) * cpu::padded_columns(offsets));
  const auto [dx, drouting, dgate, dup, ddown] = cpu::merged_ffn_backward(
      dy.contiguous(), x.contiguous(), offsets, routing.contiguous(), gate.contiguous(),
      up.contiguous(), down.contiguous(), a.contiguous(), b.contiguous(), needed);
  return {dx, drouting, dgate, dup, ddown};
}

Gradients backward_cuda(const Tensor& dy, const Tensor& x, at::IntArrayRef offsets,
                        const Tensor& routing, const Tensor& gate, const Tensor& up,
                        const Tensor& down, const Tensor& a, const Tensor& b, Needed needed) {
  if (a.numel() == 0) {
    return backward_reference(dy, x, offsets, routing, gate, up, down, a, b, needed);
  }
  check_arguments(x, offsets, routing, gate, up, down);
  check_gradient(dy, x);
  check_saved(a, b, x, gate.size(1) * x.size(0));
  if (cuda_way(x, offsets, gate) != CudaWay::kernels) {
    const auto [dx, drouting, dgate, dup, ddown] = cuda::batched_backward(
        cuda::gpu_at(x.device()), dy, x, offsets, routing, gate, up, down, a, b, needed);
    return {dx, drouting, dgate, dup, ddown};
  }
  const auto [dx, drouting, dgate, dup, ddown] = cuda::merged_ffn()->backward(
      dy, x, offsets, routing, gate, up, down, a.contiguous(), b.contiguous(), needed);
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

bool has_merged_ffn_kernels(const Tensor& x, at::IntArrayRef offsets, const Tensor& gate) {
  return x.is_cuda() && cuda_way(x, offsets, gate) == CudaWay::kernels;
}

WithBatchedProducts::WithBatchedProducts() { kernels_are_off = true; }
WithBatchedProducts::~WithBatchedProducts() { kernels_are_off = false; }

TORCH_LIBRARY_FRAGMENT(lorikeet, library) {
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
  library.impl("merged_ffn_forward", forward_cuda);
  library.impl("merged_ffn_backward", backward_cuda);
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
