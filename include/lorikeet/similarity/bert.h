#pragma once
#include <ATen/ATen.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lorikeet/ops/transformer_encoder.h"

namespace lorikeet {

/// config.json of a BERT-family encoder, in Hugging Face's keys.
struct BertConfig {
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t intermediate_size = 0;
  int64_t max_positions = 512;
  int64_t num_token_types = 2;
  double norm_eps = 1e-12;
};

/// @throws Error(kCheckpoint) for a directory without config.json, a key that is missing or wrong,
/// and models of another family
BertConfig read_bert_config(const std::string& directory);

/// A BERT encoder (Devlin et al., arXiv 1810.04805) for inference: post-norm layers, GELU by erf,
/// absolute positions. Names of tensors with and without the prefix `bert.` are read; the pooler
/// and other heads are passed over.
class Bert {
 public:
  /// @param dtype   of weights and activations: kFloat or kBFloat16
  /// @param device  where they lie and embed() computes
  /// @throws Error(kCheckpoint) for missing tensors and wrong shapes
  Bert(const std::string& directory, at::ScalarType dtype, at::Device device = at::kCPU);

  const BertConfig& config() const { return config_; }
  /// The mean of the last hidden states over each text's tokens. For several threads at once; on
  /// the CPU each computes alone.
  /// @param ids      int64 [N] on the CPU: the texts' tokens one behind another
  /// @param offsets  text b is ids offsets[b] .. offsets[b + 1]: at least one, at most
  /// config().max_positions
  /// @return fp32 [B, D], on the CPU
  at::Tensor embed(const at::Tensor& ids_N, at::IntArrayRef offsets) const;

 private:
  BertConfig config_;
  at::Tensor word_embeddings_;
  at::Tensor position_embeddings_;  ///< the first token type's is added
  ops::EncoderLayer::Norm embedding_norm_;
  std::optional<ops::TransformerEncoder> encoder_;
};

}  // namespace lorikeet
