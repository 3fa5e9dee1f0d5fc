// Causal attention as one differentiable function: which form, and what backward needs.
#include "lorikeet/ops/attention.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "cpu/attention.h"
#include "cpu/level.h"

namespace lorikeet::ops {

namespace {

using at::Tensor;

Tensor library_attention(const Tensor& q, const Tensor& k, const Tensor& v) {
  return at::scaled_dot_product_attention(q, k, v, /*attn_mask=*/{}, /*dropout_p=*/0.0,
                                          /*is_causal=*/true, /*scale=*/std::nullopt,
                                          /*enable_gqa=*/q.size(1) != k.size(1));
}

/// Whether the micro-kernels take it.
bool is_tiled(const Tensor& q, const Tensor& k, const Tensor& v) {
  const cpu::Level& level = cpu::level();
  const auto dtype = q.scalar_type();
  if (level.kernels == nullptr) return false;
  for (const Tensor& t : {q, k, v}) {
    if (!t.is_cpu() || t.scalar_type() != dtype) return false;
  }
  const bool is_bf16 = dtype == at::kBFloat16;
  if (is_bf16 && level.bf16_product && q.size(3) % 2 == 0) return true;
  return level.fast_product && (dtype == at::kFloat || (is_bf16 && cpu::beats_library(dtype)));
}

struct CausalAttention : torch::autograd::Function<CausalAttention> {
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& q, const Tensor& k,
                        const Tensor& v) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    auto [y, lse] = cpu::attention_forward(q, k, v);
    context->save_for_backward({q, k, v, y, lse});
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    TORCH_CHECK(!at::GradMode::is_enabled(),
                "causal_attention is differentiable once: backward with create_graph would lose "
                "the gradients' own dependence on q, k and v");
    const auto saved = context->get_saved_variables();
    const auto [dq, dk, dv] =
        cpu::attention_backward(grads[0], saved[0], saved[1], saved[2], saved[3], saved[4]);
    return {dq, dk, dv};
  }
};

}  // namespace

Tensor causal_attention(const Tensor& q, const Tensor& k, const Tensor& v, bool reference) {
  TORCH_CHECK(q.dim() == 4 && k.dim() == 4 && k.sizes() == v.sizes() && q.size(0) == k.size(0) &&
                  q.size(2) == k.size(2) && q.size(3) == k.size(3) && k.size(1) > 0 &&
                  q.size(1) % k.size(1) == 0,
              "causal_attention: q ", q.sizes(), ", k ", k.sizes(), ", v ", v.sizes(),
              " must be [B, A, L, H], [B, K, L, H] twice, K dividing A");
  if (reference || q.numel() == 0 || !is_tiled(q, k, v)) return library_attention(q, k, v);
  return CausalAttention::apply(q, k, v);
}

}  // namespace lorikeet::ops
