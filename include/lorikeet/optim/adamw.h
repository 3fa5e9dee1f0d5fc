#pragma once
#include <torch/torch.h>

#include <cstddef>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "lorikeet/config/run_config.h"

namespace lorikeet {

/// Parameters, or an optimizer's state, by name.
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

  /// One step with the gradients at hand; a parameter without one is left alone, its state too.
  void step(double learning_rate);
  /// The same, decided on the device: nothing changes where `skip`, fp32 [], is 1; it is 0
  /// otherwise.
  void step(double learning_rate, const torch::Tensor& skip);
  /// Frees the gradients.
  void zero_grad();

  const NamedParameters& parameters() const { return parameters_; }
  /// Moments of one parameter, to read or to fill: after the dense warm-up
  /// `merged.state_of(name).exp_avg.copy_(dense.state_of(old_name).exp_avg)` keeps the dense
  /// layers' moments for all experts, by broadcasting.
  AdamWState& state_of(const std::string& name);
  /// All of it for a checkpoint, not copied: `optimizer.exp_avg.<parameter>`,
  /// `optimizer.exp_avg_sq.<parameter>` and `optimizer.step.<parameter>`.
  NamedParameters state() const;
  /// Copies state() of another run into this one. Names that do not begin with `optimizer.` are
  /// ignored, so that a whole checkpoint's tensors may be given.
  /// @throws Error(kCheckpoint) for one that is missing, unknown or of another shape or dtype;
  /// nothing was changed then
  void load_state(const NamedParameters& tensors);
  /// As new: all moments and steps 0.
  void reset();

 private:
  void step_if(double learning_rate, const std::optional<torch::Tensor>& skip);

  NamedParameters parameters_;
  std::vector<AdamWState> states_;                 // parallel to parameters_
  std::unordered_map<std::string, size_t> index_;  // name -> position in both
  double beta1_, beta2_, eps_, weight_decay_;
};

/// Whether weight decay applies to a parameter of this shape.
bool is_decayed(const torch::Tensor& parameter);

}  // namespace lorikeet
