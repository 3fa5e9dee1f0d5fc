// B batch, L tokens, D model, A query heads, K key-value heads, H head size.
#include "lorikeet/model/attention.h"

#include <torch/torch.h>

#include <tuple>

#include "lorikeet/ops/attention.h"
#include "lorikeet/ops/rope.h"

namespace lorikeet {

namespace {

/// A span at a time: the work is the sum of the spans' squares, and no mask of L x L is made. Rows
/// and spans are split at once, so that backward concatenates their gradients instead of filling
/// zeros for each.
torch::Tensor attention_within_spans(const torch::Tensor& q_BALH, const torch::Tensor& k_BKLH,
                                     const torch::Tensor& v_BKLH,
                                     const std::vector<DocumentLengths>& spans, bool reference) {
  const auto q_rows = q_BALH.unbind(0), k_rows = k_BKLH.unbind(0), v_rows = v_BKLH.unbind(0);
  std::vector<torch::Tensor> rows;
  for (size_t b = 0; b < spans.size(); ++b) {
    const auto split = [&](const torch::Tensor& row) { return row.split_with_sizes(spans[b], 1); };
    const auto q = split(q_rows[b]), k = split(k_rows[b]), v = split(v_rows[b]);
    std::vector<torch::Tensor> parts;
    for (size_t i = 0; i < spans[b].size(); ++i) {
      parts.push_back(ops::causal_attention(q[i].unsqueeze(0), k[i].unsqueeze(0), v[i].unsqueeze(0),
                                            reference));
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
      qk_norm_(config.qk_norm),
      is_reference_(config.feed_forward.kernel == Kernel::kReference) {
  const int64_t D = config.hidden_size;
  const int64_t q_size = num_heads_ * head_size_, kv_size = num_kv_heads_ * head_size_;
  q_proj_ = register_module("q_proj", Linear(D, q_size, config, options));
  k_proj_ = register_module("k_proj", Linear(D, kv_size, config, options));
  v_proj_ = register_module("v_proj", Linear(D, kv_size, config, options));
  o_proj_ = register_module("o_proj", Linear(q_size, D, config, options));
  if (qk_norm_ != QkNorm::kNone) {
    const bool full = qk_norm_ == QkNorm::kFull;
    q_norm_ = register_module("q_norm", RmsNorm(full ? q_size : head_size_, config, options));
    k_norm_ = register_module("k_norm", RmsNorm(full ? kv_size : head_size_, config, options));
  }
}

AttentionImpl::Projections AttentionImpl::project(const torch::Tensor& x_BLD,
                                                  const ops::RopeTable& rope) {
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
  std::tie(q, k) = ops::apply_rope(q, k, rope, is_reference_);
  v = v.view({B, L, num_kv_heads_, head_size_});
  return {q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)};
}

torch::Tensor AttentionImpl::project_out(const torch::Tensor& y_BALH) {
  const int64_t B = y_BALH.size(0), L = y_BALH.size(2);
  return o_proj_(y_BALH.transpose(1, 2).reshape({B, L, num_heads_ * head_size_}));
}

torch::Tensor AttentionImpl::forward(const torch::Tensor& x_BLD, const SequenceLayout& layout) {
  const auto [q, k, v] = project(x_BLD, layout.rope);
  const torch::Tensor y_BALH =
      layout.attends_whole_rows()
          ? ops::causal_attention(q, k, v, is_reference_)
          : attention_within_spans(q, k, v, layout.attention_spans, is_reference_);
  return project_out(y_BALH);
}

torch::Tensor AttentionImpl::extend(const torch::Tensor& x_BLD, const ops::RopeTable& rope,
                                    KeyValueCache& cache) {
  const auto [q, k, v] = project(x_BLD, rope);
  const bool is_first = cache.length() == 0;
  cache.append(k, v);
  if (is_first) return project_out(ops::causal_attention(q, k, v, is_reference_));
  // One token sees all there is: no mask.
  TORCH_CHECK(q.size(2) == 1, "Attention::extend: ", q.size(2), " tokens after the first call");
  return project_out(at::scaled_dot_product_attention(
      q, cache.keys(), cache.values(), /*attn_mask=*/{}, /*dropout_p=*/0.0, /*is_causal=*/false,
      /*scale=*/std::nullopt, /*enable_gqa=*/num_heads_ != num_kv_heads_));
}

}  // namespace lorikeet
