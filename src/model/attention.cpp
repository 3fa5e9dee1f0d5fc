// B batch, L tokens, D model, A query heads, K key-value heads, H head size.
#include "lorikeet/model/attention.h"

#include <torch/torch.h>

namespace lorikeet {

namespace {

torch::Tensor causal_attention(const torch::Tensor& q_BALH, const torch::Tensor& k_BKLH,
                               const torch::Tensor& v_BKLH) {
  const bool grouped = q_BALH.size(1) != k_BKLH.size(1);
  return at::scaled_dot_product_attention(q_BALH, k_BKLH, v_BKLH, /*attn_mask=*/{},
                                          /*dropout_p=*/0.0, /*is_causal=*/true,
                                          /*scale=*/std::nullopt, /*enable_gqa=*/grouped);
}

/// A span at a time: the work is the sum of the spans' squares, and no mask of L x L is made.
torch::Tensor attention_within_spans(const torch::Tensor& q, const torch::Tensor& k,
                                     const torch::Tensor& v,
                                     const std::vector<DocumentLengths>& spans) {
  std::vector<torch::Tensor> rows;
  for (int64_t b = 0; b < q.size(0); ++b) {
    std::vector<torch::Tensor> parts;
    int64_t begin = 0;
    for (const int64_t length : spans[b]) {
      const auto part = [&](const torch::Tensor& t) {
        return t.narrow(0, b, 1).narrow(2, begin, length);
      };
      parts.push_back(causal_attention(part(q), part(k), part(v)));
      begin += length;
    }
    rows.push_back(torch::cat(parts, 2));
  }
  return torch::cat(rows, 0);
}

}  // namespace

AttentionImpl::AttentionImpl(const ModelConfig& config, const torch::TensorOptions& options)
    : num_heads_(config.num_heads),
      num_kv_heads_(config.kv_heads()),
      head_size_(config.head_size()),
      qk_norm_(config.qk_norm) {
  const int64_t D = config.hidden_size;
  const int64_t q_size = num_heads_ * head_size_, kv_size = num_kv_heads_ * head_size_;
  q_proj_ = register_module("q_proj", Linear(D, q_size, options));
  k_proj_ = register_module("k_proj", Linear(D, kv_size, options));
  v_proj_ = register_module("v_proj", Linear(D, kv_size, options));
  o_proj_ = register_module("o_proj", Linear(q_size, D, options));
  if (qk_norm_ != QkNorm::kNone) {
    const bool full = qk_norm_ == QkNorm::kFull;
    q_norm_ =
        register_module("q_norm", RmsNorm(full ? q_size : head_size_, config.norm_eps, options));
    k_norm_ =
        register_module("k_norm", RmsNorm(full ? kv_size : head_size_, config.norm_eps, options));
  }
}

torch::Tensor AttentionImpl::forward(const torch::Tensor& x_BLD, const SequenceLayout& layout) {
  const int64_t B = x_BLD.size(0), L = x_BLD.size(1);
  torch::Tensor q = q_proj_(x_BLD), k = k_proj_(x_BLD), v = v_proj_(x_BLD);
  if (qk_norm_ == QkNorm::kFull) {
    q = q_norm_(q);
    k = k_norm_(k);
  }
  q = q.view({B, L, num_heads_, head_size_});
  k = k.view({B, L, num_kv_heads_, head_size_});
  if (qk_norm_ == QkNorm::kHead) {
    q = q_norm_(q);
    k = k_norm_(k);
  }
  q = ops::apply_rope(q.transpose(1, 2), layout.rope);
  k = ops::apply_rope(k.transpose(1, 2), layout.rope);
  v = v.view({B, L, num_kv_heads_, head_size_}).transpose(1, 2);
  const torch::Tensor y_BALH = layout.attends_whole_rows()
                                   ? causal_attention(q, k, v)
                                   : attention_within_spans(q, k, v, layout.attention_spans);
  return o_proj_(y_BALH.transpose(1, 2).reshape({B, L, num_heads_ * head_size_}));
}

}  // namespace lorikeet
