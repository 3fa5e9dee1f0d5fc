#pragma once
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <cstdint>

#include "lorikeet/config/model_config.h"

namespace lorikeet {

// Weights are created uninitialised (initialise_parameters or a model directory fills them), so
// that a model on the meta device costs nothing. Weights are fp32 masters; activations may be bf16.

/// y = x W^T, without a bias; see ops::linear. `weight` [out, in].
class LinearImpl : public torch::nn::Module {
 public:
  LinearImpl(int64_t in, int64_t out, const ModelConfig& config,
             const torch::TensorOptions& options);
  torch::Tensor forward(const torch::Tensor& x);
  torch::Tensor weight;

 private:
  bool is_reference_;  ///< ATen's
};
TORCH_MODULE(Linear);

/// `weight` [vocabulary, hidden]. forward: token ids [B, L] -> [B, L, D].
class EmbeddingImpl : public torch::nn::Module {
 public:
  EmbeddingImpl(int64_t vocabulary, int64_t hidden, const torch::TensorOptions& options);
  torch::Tensor forward(const torch::Tensor& ids);
  torch::Tensor weight;
};
TORCH_MODULE(Embedding);

/// `weight` [size]; see ops::rms_norm.
class RmsNormImpl : public torch::nn::Module {
 public:
  RmsNormImpl(int64_t size, const ModelConfig& config, const torch::TensorOptions& options);
  torch::Tensor forward(const torch::Tensor& x);
  torch::Tensor weight;

 private:
  double eps_;
  bool is_reference_;  ///< the composition of ATen
};
TORCH_MODULE(RmsNorm);

}  // namespace lorikeet
