#pragma once
#include <torch/torch.h>

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "lorikeet/config/run_config.h"
#include "lorikeet/parallel/sharded_parameters.h"

namespace lorikeet {

/// Parameters by name.
using NamedParameters = std::vector<std::pair<std::string, torch::Tensor>>;

/// What AdamW keeps of one parameter.
struct AdamWState {
  torch::Tensor exp_avg;     ///< of the parameter's shape and dtype: mean of the gradients
  torch::Tensor exp_avg_sq;  ///< the same of their squares
  torch::Tensor step;        ///< fp32 [] on the parameter's device: steps taken with a gradient
};

/// AdamW (arXiv 1711.05101), the same to rounding as torch.optim.AdamW:
///
///     p *= 1 - rate * weight_decay                (matrices only)
///     m  = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2
///     p -= rate / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
///
/// Weight decay is for matrices, that is parameters of two dimensions or more: embeddings and
/// stacked experts [E, F, D] are, norms' gains, biases and a learned prior [E] are not. The result
/// does not depend on the number of threads.
class AdamW {
 public:
  /// @param parameters  leaves, fp32 or double, contiguous, of one dtype and device; names unique
  /// @throws Error(kInternal) where they are not, Error(kUsage) for a kind other than adamw
  AdamW(NamedParameters parameters, const OptimizerConfig& config);
  /// Over flat tensors, whose gradients are theirs to keep; matrices are those marked so.
  static AdamW over(const std::vector<OptimizerTensor>& tensors, const OptimizerConfig& config);

  /// One step with the gradients at hand; a parameter without one is left alone, its state too.
  void step(double learning_rate);

  const NamedParameters& parameters() const { return parameters_; }
  /// Of one parameter, by its position, to read or to fill.
  AdamWState& state_at(size_t index) { return states_.at(index); }
  const AdamWState& state_at(size_t index) const { return states_.at(index); }

 private:
  AdamW(NamedParameters parameters, std::vector<bool> is_decayed, const OptimizerConfig& config);

  NamedParameters parameters_;
  std::vector<bool> is_decayed_;    // parallel to parameters_
  std::vector<AdamWState> states_;  // parallel to parameters_
  double beta1_, beta2_, eps_, weight_decay_;
};

}  // namespace lorikeet
