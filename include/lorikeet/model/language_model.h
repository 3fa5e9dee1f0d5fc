#pragma once
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <memory>
#include <vector>

#include "lorikeet/config/run_config.h"
#include "lorikeet/model/attention.h"
#include "lorikeet/model/decoding.h"
#include "lorikeet/model/feed_forward.h"
#include "lorikeet/model/layers.h"
#include "lorikeet/model/sequence_layout.h"
#include "lorikeet/ops/cross_entropy.h"
#include "lorikeet/parallel/unit_schedule.h"

namespace lorikeet {

/// Pre-norm decoder block: x + attention(norm(x)), then + feed_forward(norm(.)).
class BlockImpl : public torch::nn::Module {
 public:
  BlockImpl(const ModelConfig& config, const torch::TensorOptions& options);
  FeedForwardOutput forward(const torch::Tensor& x_BLD,
                            const std::shared_ptr<const SequenceLayout>& layout,
                            ActivationCheckpointing checkpointing);
  LayerState start_sequence(GenerationRouting routing) const;
  torch::Tensor extend(const torch::Tensor& x_BLD, const SequenceLayout& layout, LayerState& state);

 private:
  torch::Tensor attend(const torch::Tensor& x_BLD, const SequenceLayout& layout);
  FeedForwardOutput feed_forward(const torch::Tensor& x_BLD, const SequenceLayout& layout);

  RmsNorm input_layernorm_{nullptr}, post_attention_layernorm_{nullptr};
  Attention self_attn_{nullptr};
  std::shared_ptr<FeedForward> mlp_;
};
TORCH_MODULE(Block);

/// Embedding, blocks and the final norm: Hugging Face's `model.` prefix.
class DecoderImpl : public torch::nn::Module {
 public:
  DecoderImpl(const ModelConfig& config, const torch::TensorOptions& options);
  Embedding embed_tokens{nullptr};
  std::vector<Block> layers;
  RmsNorm norm{nullptr};
};
TORCH_MODULE(Decoder);

struct ModelOutput {
  torch::Tensor hidden_BLD;            ///< after the final norm; see LanguageModelImpl::logits
  std::vector<RoutingRecord> routing;  ///< one a layer
  SegmentLayout segments;              ///< what the records' rows are
};

/// LLaMA decoder whose feed-forward layers are of one FeedForward kind. Parameters carry Hugging
/// Face's LLaMA names and are left uninitialised: see initialise_parameters and
/// load_language_model.
class LanguageModelImpl : public torch::nn::Module {
 public:
  /// @param options device (meta allocates nothing) and dtype of the parameters
  explicit LanguageModelImpl(const ModelConfig& config,
                             const torch::TensorOptions& options = torch::kFloat32);

  /// Activations have `dtype` from the embedding on; the default is the parameters' own.
  void set_compute_dtype(torch::ScalarType dtype) { compute_dtype_ = dtype; }
  /// Which activations are computed again in backward instead of being kept. Changes no bit of any
  /// gradient.
  void set_checkpointing(ActivationCheckpointing parts) { checkpointing_ = parts; }

  /// From now on told before and after each unit of parameter_units() in forward; null: nobody.
  /// `schedule` must outlive its use.
  void set_unit_schedule(UnitSchedule* schedule) { schedule_ = schedule; }

  /// @param ids_BL [B, L] int64, each in [0, vocab_size)
  /// @param documents lengths of each row's documents; empty: every row is one document
  ModelOutput forward(const torch::Tensor& ids_BL,
                      const std::vector<DocumentLengths>& documents = {});
  /// @param hidden [..., D] @return [..., vocab_size], in compute dtype
  torch::Tensor logits(const torch::Tensor& hidden);
  /// The loss of predicting targets_N from hidden_ND, without all logits at once; see
  /// ops::linear_cross_entropy.
  ops::CrossEntropy cross_entropy(const torch::Tensor& hidden_ND, const torch::Tensor& targets_N);

  /// Generation: an empty sequence, to which `extend` adds first a whole prompt, then one token at
  /// a time. Each call computes the new tokens alone. For a model in evaluation mode, without
  /// gradient.
  SequenceState start_sequence(GenerationRouting routing) const;
  /// @param ids_BL [1, L] int64; L = 1 after the first call @return hidden_BLD of the new tokens
  torch::Tensor extend(const torch::Tensor& ids_BL, SequenceState& state);

  const ModelConfig& config() const { return config_; }
  torch::Device device() const;

 private:
  const torch::Tensor& head_weight() const;  // [V, D]

  ModelConfig config_;
  torch::ScalarType compute_dtype_;
  ActivationCheckpointing checkpointing_ = ActivationCheckpointing::kNone;
  UnitSchedule* schedule_ = nullptr;
  Decoder model_{nullptr};
  Linear lm_head_{nullptr};  ///< null with tied embeddings
};
TORCH_MODULE(LanguageModel);

}  // namespace lorikeet
