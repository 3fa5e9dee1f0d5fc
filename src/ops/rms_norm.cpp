// lorikeet::rms_norm as an operator: schema, argument checks, dispatch by device, autograd.
// N rows, D numbers in each.
#include "lorikeet/ops/rms_norm.h"

#include <ATen/ATen.h>
#include <ATen/OpMathType.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <array>
#include <tuple>

#include "cpu/rows.h"
#include "cuda/hook.h"
#include "find_operator.h"

namespace lorikeet::ops {

namespace {

using at::Tensor;
using Pair = std::tuple<Tensor, Tensor>;
using Needed = std::array<bool, 2>;  // gradients of x and weight

at::ScalarType compute_dtype(const Tensor& x) { return at::toOpMathType(x.scalar_type()); }

void check_arguments(const Tensor& x, const Tensor& weight) {
  TORCH_CHECK(x.dim() > 0 && weight.dim() == 1 && weight.size(0) == x.size(-1),
              "lorikeet::rms_norm: weight ", weight.sizes(), " must be [D] for x ", x.sizes(),
              " with D = its last size");
  const auto dtype = x.scalar_type();
  TORCH_CHECK(dtype == at::kFloat || dtype == at::kDouble || dtype == at::kBFloat16,
              "lorikeet::rms_norm: x must be float32, float64 or bfloat16, not ", dtype);
  TORCH_CHECK(weight.scalar_type() == dtype || weight.scalar_type() == at::kFloat,
              "lorikeet::rms_norm: weight must have the dtype of x, ", dtype,
              ", or be float32, not ", weight.scalar_type());
  TORCH_CHECK(weight.device() == x.device(), "lorikeet::rms_norm: x is on ", x.device(),
              " but weight on ", weight.device());
}

void check_backward(const Tensor& dy, const Tensor& x, const Tensor& weight, const Tensor& rstd) {
  check_arguments(x, weight);
  TORCH_CHECK(dy.sizes() == x.sizes() && dy.scalar_type() == x.scalar_type(),
              "lorikeet::rms_norm_backward: dy ", dy.sizes(), " ", dy.scalar_type(),
              " must be like x, ", x.sizes(), " ", x.scalar_type());
  TORCH_CHECK(
      rstd.sizes() == x.sizes().slice(0, x.dim() - 1) && rstd.scalar_type() == compute_dtype(x),
      "lorikeet::rms_norm_backward: rstd must be what rms_norm_forward gave");
}

/// y, and 1 / sqrt(mean(x^2) + eps) of each row.
Pair forward_aten(const Tensor& x, const Tensor& weight, double eps) {
  check_arguments(x, weight);
  const Tensor wide = x.to(compute_dtype(x));
  const Tensor rstd = at::rsqrt(wide.square().mean(-1) + eps);
  return {(wide * rstd.unsqueeze(-1) * weight.to(wide.scalar_type())).to(x.scalar_type()), rstd};
}

Pair backward_aten(const Tensor& dy, const Tensor& x, const Tensor& weight, const Tensor& rstd,
                   Needed needed) {
  check_backward(dy, x, weight, rstd);
  const auto compute = compute_dtype(x);
  const int64_t D = x.size(-1);
  const Tensor scale = rstd.unsqueeze(-1), normal = x.to(compute) * scale, wide = dy.to(compute);
  Tensor dx, dweight;
  if (needed[0]) {
    const Tensor g = wide * weight.to(compute);
    dx = (scale * (g - normal * (g * normal).mean(-1, /*keepdim=*/true))).to(x.scalar_type());
  }
  if (needed[1]) {
    dweight = (wide * normal).reshape({-1, D}).sum(0).to(weight.scalar_type());
  }
  return {dx, dweight};
}

Pair forward_cpu(const Tensor& x, const Tensor& weight, double eps) {
  if (!cpu::has_row_loops(x)) return forward_aten(x, weight, eps);
  check_arguments(x, weight);
  const auto [y, rstd] = cpu::rms_norm_forward(x, weight.to(at::kFloat).contiguous(), eps);
  return {y, rstd};
}

Pair backward_cpu(const Tensor& dy, const Tensor& x, const Tensor& weight, const Tensor& rstd,
                  Needed needed) {
  if (!cpu::has_row_loops(x)) return backward_aten(dy, x, weight, rstd, needed);
  check_backward(dy, x, weight, rstd);
  const auto [dx, dweight] =
      cpu::rms_norm_backward(dy, x, weight.to(at::kFloat).contiguous(), rstd.contiguous());
  return {needed[0] ? dx : Tensor(), needed[1] ? dweight.to(weight.scalar_type()) : Tensor()};
}

/// Ours take an fp32 weight beside any x.
bool has_kernels(const Tensor& x, const Tensor& weight) {
  return weight.scalar_type() == at::kFloat && cuda::has_row_kernels(x, x.size(-1));
}

/// LibTorch's fused norm wants one dtype: fp32 where x and weight differ, which are rounded once
/// afterwards.
at::ScalarType fused_dtype(const Tensor& x, const Tensor& weight) {
  return x.scalar_type() == weight.scalar_type() ? x.scalar_type() : at::kFloat;
}

Pair forward_cuda(const Tensor& x, const Tensor& weight, double eps) {
  check_arguments(x, weight);
  if (has_kernels(x, weight)) return cuda::row_kernels()->rms_norm(x, weight, eps);
  const auto dtype = fused_dtype(x, weight);
  const auto [y, rstd] = at::_fused_rms_norm(x.to(dtype), {x.size(-1)}, weight.to(dtype), eps);
  return {y.to(x.scalar_type()), rstd.view(x.sizes().slice(0, x.dim() - 1))};
}

Pair backward_cuda(const Tensor& dy, const Tensor& x, const Tensor& weight, const Tensor& rstd,
                   Needed needed) {
  check_backward(dy, x, weight, rstd);
  if (has_kernels(x, weight)) {
    return cuda::row_kernels()->rms_norm_backward(dy, x, weight, rstd, needed);
  }
  const auto dtype = fused_dtype(x, weight);
  const auto [dx, dweight] = at::_fused_rms_norm_backward(
      dy.to(dtype), x.to(dtype), {x.size(-1)}, rstd.unsqueeze(-1), weight.to(dtype), needed);
  return {needed[0] ? dx.to(x.scalar_type()) : Tensor(),
          needed[1] ? dweight.to(weight.scalar_type()) : Tensor()};
}

struct RmsNorm : torch::autograd::Function<RmsNorm> {
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& x,
                        const Tensor& weight, double eps) {
    static const auto op = find_operator<decltype(forward_aten)>("lorikeet::rms_norm_forward");
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    const auto [y, rstd] = op.call(x, weight, eps);
    context->save_for_backward({x, weight, rstd});
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    static const auto op = find_operator<decltype(backward_aten)>("lorikeet::rms_norm_backward");
    const auto saved = context->get_saved_variables();
    const auto [dx, dweight] =
        op.call(grads[0], saved[0], saved[1], saved[2],
                Needed{context->needs_input_grad(0), context->needs_input_grad(1)});
    return {dx, dweight, Tensor()};
  }
};

Tensor rms_norm_any(const Tensor& x, const Tensor& weight, double eps, bool reference) {
  return reference ? std::get<0>(forward_aten(x, weight, eps)) : RmsNorm::apply(x, weight, eps);
}

}  // namespace

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps, bool reference) {
  return rms_norm_any(x, weight, eps, reference);
}

TORCH_LIBRARY_FRAGMENT(lorikeet, library) {
  library.def("rms_norm(Tensor x, Tensor weight, float eps, bool reference=False) -> Tensor",
              rms_norm_any);
  library.def("rms_norm_forward(Tensor x, Tensor weight, float eps) -> (Tensor y, Tensor rstd)");
  library.def(
      "rms_norm_backward(Tensor dy, Tensor x, Tensor weight, Tensor rstd, bool[2] needed)"
      " -> (Tensor, Tensor)");
}
TORCH_LIBRARY_IMPL(lorikeet, CompositeExplicitAutograd, library) {
  library.impl("rms_norm_forward", forward_aten);
  library.impl("rms_norm_backward", backward_aten);
}
TORCH_LIBRARY_IMPL(lorikeet, CPU, library) {
  library.impl("rms_norm_forward", forward_cpu);
  library.impl("rms_norm_backward", backward_cpu);
}
TORCH_LIBRARY_IMPL(lorikeet, CUDA, library) {
  library.impl("rms_norm_forward", forward_cuda);
  library.impl("rms_norm_backward", backward_cuda);
}
TORCH_LIBRARY_IMPL(lorikeet, Autograd, library) {
  // Without these a double backward would silently give wrong gradients.
  library.impl("rms_norm_forward", torch::autograd::autogradNotImplementedFallback());
  library.impl("rms_norm_backward", torch::autograd::autogradNotImplementedFallback());
}

}  // namespace lorikeet::ops
