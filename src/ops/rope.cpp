// lorikeet::rope as an operator: schema, argument checks, dispatch by device, autograd.
// B sequences, L tokens, A query heads, K key heads, H head size.
#include "lorikeet/ops/rope.h"

#include <ATen/ATen.h>
#include <ATen/OpMathType.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <tuple>

#include "cpu/rows.h"
#include "cuda/hook.h"
#include "find_operator.h"

namespace lorikeet::ops {

namespace {

using at::Tensor;
using Pair = std::tuple<Tensor, Tensor>;

void check_arguments(const Tensor& q, const Tensor& k, const Tensor& cos, const Tensor& sin) {
  TORCH_CHECK(q.dim() == 4 && k.dim() == 4 && q.size(0) == k.size(0) && q.size(1) == k.size(1) &&
                  q.size(3) == k.size(3) && q.size(3) % 2 == 0,
              "lorikeet::rope: q ", q.sizes(), " and k ", k.sizes(),
              " must be [B, L, A, H] and [B, L, K, H] with an even H");
  const auto dtype = q.scalar_type();
  TORCH_CHECK(k.scalar_type() == dtype &&
                  (dtype == at::kFloat || dtype == at::kDouble || dtype == at::kBFloat16),
              "lorikeet::rope: q ", dtype, " and k ", k.scalar_type(),
              " must be of one dtype, float32, float64 or bfloat16");
  const int64_t B = q.size(0), L = q.size(1), half = q.size(3) / 2;
  TORCH_CHECK(
      (cos.sizes() == at::IntArrayRef({L, half}) || cos.sizes() == at::IntArrayRef({B, L, half})) &&
          sin.sizes() == cos.sizes() && cos.scalar_type() == at::kFloat &&
          sin.scalar_type() == at::kFloat,
      "lorikeet::rope: cos ", cos.sizes(), " and sin ", sin.sizes(), " must be [", L, ", ", half,
      "] or [", B, ", ", L, ", ", half, "] in float32 for q ", q.sizes());
  for (const Tensor* other : {&k, &cos, &sin}) {
    TORCH_CHECK(other->device() == q.device(), "lorikeet::rope: q is on ", q.device(),
                " but another argument on ", other->device());
  }
}

Tensor rotate_aten(const Tensor& x_BLAH, const Tensor& cos, const Tensor& sin, bool inverse) {
  const int64_t half = x_BLAH.size(-1) / 2;
  const auto compute = at::toOpMathType(x_BLAH.scalar_type());
  const Tensor first = x_BLAH.narrow(-1, 0, half), second = x_BLAH.narrow(-1, half, half);
  const Tensor c = cos.unsqueeze(-2).to(compute), s = sin.unsqueeze(-2).to(compute);
  const Tensor turn = inverse ? -s : s;
  return at::cat({first * c - second * turn, second * c + first * turn}, -1)
      .to(x_BLAH.scalar_type());
}

Pair forward_aten(const Tensor& q, const Tensor& k, const Tensor& cos, const Tensor& sin,
                  bool inverse) {
  check_arguments(q, k, cos, sin);
  return {rotate_aten(q, cos, sin, inverse), rotate_aten(k, cos, sin, inverse)};
}

Pair forward_cpu(const Tensor& q, const Tensor& k, const Tensor& cos, const Tensor& sin,
                 bool inverse) {
  if (!cpu::has_row_loops(q)) return forward_aten(q, k, cos, sin, inverse);
  check_arguments(q, k, cos, sin);
  return {cpu::rope(q, cos, sin, inverse), cpu::rope(k, cos, sin, inverse)};
}

Pair forward_cuda(const Tensor& q, const Tensor& k, const Tensor& cos, const Tensor& sin,
                  bool inverse) {
  if (!cuda::has_row_kernels(q, q.size(-1) / 2) || !cuda::has_row_kernels(k, k.size(-1) / 2)) {
    return forward_aten(q, k, cos, sin, inverse);
  }
  check_arguments(q, k, cos, sin);
  return cuda::row_kernels()->rope(q, k, cos, sin, inverse);
}

struct Rope : torch::autograd::Function<Rope> {
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context,
                                                const Tensor& q, const Tensor& k, const Tensor& cos,
                                                const Tensor& sin, bool inverse) {
    static const auto op = find_operator<decltype(forward_aten)>("lorikeet::rope_forward");
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    context->save_for_backward({cos, sin});
    context->saved_data["inverse"] = inverse;
    const auto [rotated_q, rotated_k] = op.call(q, k, cos, sin, inverse);
    return {rotated_q, rotated_k};
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    const auto saved = context->get_saved_variables();
    const auto gradients =
        apply(grads[0], grads[1], saved[0], saved[1], !context->saved_data["inverse"].toBool());
    return {gradients[0], gradients[1], Tensor(), Tensor(), Tensor()};
  }
};

Pair rope_any(const Tensor& q, const Tensor& k, const Tensor& cos, const Tensor& sin, bool inverse,
              bool reference) {
  if (reference) return forward_aten(q, k, cos, sin, inverse);
  const auto rotated = Rope::apply(q, k, cos, sin, inverse);
  return {rotated[0], rotated[1]};
}

}  // namespace

RopeTable make_rope_table(const Tensor& positions_L, int64_t head_size, double theta) {
  const auto options = positions_L.options().dtype(at::kFloat);
  const Tensor exponents = at::arange(0, head_size, 2, options) / static_cast<double>(head_size);
  const Tensor angles = at::outer(positions_L.to(at::kFloat), at::pow(theta, -exponents));
  return {angles.cos(), angles.sin()};
}

std::pair<Tensor, Tensor> apply_rope(const Tensor& q_BLAH, const Tensor& k_BLKH,
                                     const RopeTable& table, bool reference) {
  const auto [q, k] = rope_any(q_BLAH, k_BLKH, table.cos, table.sin, /*inverse=*/false, reference);
  return {q, k};
}

TORCH_LIBRARY_FRAGMENT(lorikeet, library) {
  library.def(
      "rope(Tensor q, Tensor k, Tensor cos, Tensor sin, bool inverse=False, bool reference=False)"
      " -> (Tensor, Tensor)",
      rope_any);
  library.def(
      "rope_forward(Tensor q, Tensor k, Tensor cos, Tensor sin, bool inverse) -> (Tensor, Tensor)");
}
TORCH_LIBRARY_IMPL(lorikeet, CompositeExplicitAutograd, library) {
  library.impl("rope_forward", forward_aten);
}
TORCH_LIBRARY_IMPL(lorikeet, CPU, library) { library.impl("rope_forward", forward_cpu); }
TORCH_LIBRARY_IMPL(lorikeet, CUDA, library) { library.impl("rope_forward", forward_cuda); }
TORCH_LIBRARY_IMPL(lorikeet, Autograd, library) {
  library.impl("rope_forward", torch::autograd::autogradNotImplementedFallback());
}

}  // namespace lorikeet::ops
