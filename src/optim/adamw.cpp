#include "lorikeet/optim/adamw.h"

#include <fmt/ranges.h>

#include <set>

#include "lorikeet/core/error.h"

namespace lorikeet {
namespace {

std::string describe(const torch::Tensor& tensor) {
  return fmt::format("{} [{}]", c10::toString(tensor.scalar_type()),
                     fmt::join(tensor.sizes(), ", "));
}

void check_parameter(const std::string& name, const torch::Tensor& tensor,
                     const torch::Tensor& first) {
  const bool is_real =
      tensor.scalar_type() == torch::kFloat || tensor.scalar_type() == torch::kDouble;
  // The fused kernel walks raw memory.
  if (is_real && tensor.is_leaf() && tensor.is_contiguous() && tensor.device() == first.device() &&
      tensor.scalar_type() == first.scalar_type()) {
    return;
  }
  throw Error(
      ExitCode::kInternal,
      fmt::format("optimizer: parameter '{}' ({}) must be a contiguous leaf of the dtype and "
                  "device of the first one ({}), fp32 or double",
                  name, describe(tensor), describe(first)));
}

/// The tensor lists of one call of the fused kernel.
struct Group {
  std::vector<torch::Tensor> parameters, gradients, exp_avgs, exp_avg_sqs, steps;

  void add(const torch::Tensor& parameter, const AdamWState& state) {
    parameters.push_back(parameter);
    gradients.push_back(parameter.grad().contiguous());
    exp_avgs.push_back(state.exp_avg);
    exp_avg_sqs.push_back(state.exp_avg_sq);
    steps.push_back(state.step);
  }
};

std::vector<bool> decayed_among(const NamedParameters& parameters) {
  std::vector<bool> all;
  for (const auto& [name, tensor] : parameters) all.push_back(tensor.dim() >= 2);
  return all;
}

std::vector<bool> matrices_among(const std::vector<OptimizerTensor>& tensors) {
  std::vector<bool> all;
  for (const OptimizerTensor& tensor : tensors) all.push_back(tensor.is_matrix);
  return all;
}

NamedParameters named(const std::vector<OptimizerTensor>& tensors) {
  NamedParameters all;
  for (const OptimizerTensor& tensor : tensors) all.emplace_back(tensor.name, tensor.values);
  return all;
}

}  // namespace

AdamW::AdamW(NamedParameters parameters, const OptimizerConfig& config)
    : AdamW(parameters, decayed_among(parameters), config) {}

AdamW AdamW::over(const std::vector<OptimizerTensor>& tensors, const OptimizerConfig& config) {
  return {named(tensors), matrices_among(tensors), config};
}

AdamW::AdamW(NamedParameters parameters, std::vector<bool> is_decayed,
             const OptimizerConfig& config)
    : parameters_(std::move(parameters)),
      is_decayed_(std::move(is_decayed)),
      beta1_(config.betas.at(0)),
      beta2_(config.betas.at(1)),
      eps_(config.eps),
      weight_decay_(config.weight_decay) {
  if (config.kind != "adamw") {
    throw Error(ExitCode::kUsage, "optimizer.kind: '" + config.kind + "' is not adamw");
  }
  std::set<std::string> names;
  for (const auto& [name, tensor] : parameters_) {
    check_parameter(name, tensor, parameters_.front().second);
    if (!names.insert(name).second) {
      throw Error(ExitCode::kInternal, "optimizer: parameter '" + name + "' is given twice");
    }
    const torch::Tensor data = tensor.detach();
    states_.push_back({torch::zeros_like(data), torch::zeros_like(data),
                       torch::zeros({}, data.options().dtype(torch::kFloat))});
  }
}

void AdamW::step(double learning_rate) {
  const torch::NoGradGuard no_grad;
  Group decayed, others;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const torch::Tensor& parameter = parameters_[i].second;
    if (!parameter.grad().defined()) continue;
    (is_decayed_[i] ? decayed : others).add(parameter, states_[i]);
  }
  for (Group* group : {&decayed, &others}) {
    if (group->parameters.empty()) continue;
    at::_foreach_add_(group->steps, 1);
    at::_fused_adamw_(group->parameters, group->gradients, group->exp_avgs, group->exp_avg_sqs,
                      /*max_exp_avg_sqs=*/{}, group->steps, learning_rate, beta1_, beta2_,
                      group == &decayed ? weight_decay_ : 0.0, eps_, /*amsgrad=*/false,
                      /*maximize=*/false);
  }
}

}  // namespace lorikeet
