#pragma once
#include <ATen/ATen.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

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
  /// @param dtype  of weights and activations: kFloat or kBFloat16
  /// @throws Error(kCheckpoint) for missing tensors and wrong shapes
  Bert(const std::string& directory, at::ScalarType dtype);

  const BertConfig& config() const { return config_; }
  /// The mean of the last hidden states over the tokens.
  /// @param ids      int64 [B, L], L at most config().max_positions
  /// @param lengths  int64 [B]: tokens of each row; those behind are padding
  /// @return fp32 [B, D]
  at::Tensor embed(const at::Tensor& ids_BL, const at::Tensor& lengths_B) const;

 private:
  struct Dense {
    at::Tensor weight;
    at::Tensor bias;
    at::Tensor operator()(const at::Tensor& x) const;
  };
  struct Norm {
    at::Tensor weight;
    at::Tensor bias;
    at::Tensor operator()(const at::Tensor& x, double eps) const;
  };
  struct Layer {
    Dense query_key_value;
    Dense attention_output;
    Norm attention_norm;
    Dense intermediate;
    Dense output;
    Norm output_norm;
  };
  at::Tensor attend(const Layer& layer, const at::Tensor& x_BLD,
                    const std::optional<at::Tensor>& mask) const;

  BertConfig config_;
  at::ScalarType dtype_;
  at::Tensor word_embeddings_;
  at::Tensor position_embeddings_;  ///< the first token type's is added
  Norm embedding_norm_;
  std::vector<Layer> layers_;
};

}  // namespace lorikeet
