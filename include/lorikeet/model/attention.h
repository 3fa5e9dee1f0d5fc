#pragma once
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "lorikeet/config/model_config.h"
#include "lorikeet/model/decoding.h"
#include "lorikeet/model/layers.h"
#include "lorikeet/model/sequence_layout.h"

namespace lorikeet {

/// Causal self-attention with rotary positions and grouped-query heads (LLaMA), optionally with
/// RMSNorm on queries and keys before the rotation: over the whole projection (OLMoE) or over each
/// head.
class AttentionImpl : public torch::nn::Module {
 public:
  AttentionImpl(const ModelConfig& config, const torch::TensorOptions& options);

  /// @param x_BLD normalised block input
  /// @return [B, L, D]. Tokens see earlier ones of their row, or of their document where
  /// layout.attention_spans
  ///   says so; each document is then computed as it would be alone.
  torch::Tensor forward(const torch::Tensor& x_BLD, const SequenceLayout& layout);
  /// The next tokens of one sequence: they see those in the cache, and are added to it. Without
  /// gradient.
  /// @param x_BLD [1, L, D]; L = 1 unless the cache is empty @param rope of their positions
  torch::Tensor extend(const torch::Tensor& x_BLD, const ops::RopeTable& rope,
                       KeyValueCache& cache);

 private:
  struct Projections {
    torch::Tensor q_BALH, k_BKLH, v_BKLH;
  };
  Projections project(const torch::Tensor& x_BLD, const ops::RopeTable& rope);
  torch::Tensor project_out(const torch::Tensor& y_BALH);

  int64_t num_heads_, num_kv_heads_, head_size_;
  QkNorm qk_norm_;
  bool is_reference_;  ///< LibTorch's attention everywhere
  Linear q_proj_{nullptr}, k_proj_{nullptr}, v_proj_{nullptr}, o_proj_{nullptr};
  RmsNorm q_norm_{nullptr}, k_norm_{nullptr};
};
TORCH_MODULE(Attention);

}  // namespace lorikeet
