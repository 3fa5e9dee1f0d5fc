#include "lorikeet/optim/adamw.h"

#include <fmt/ranges.h>

#include <array>
#include <string_view>

#include "lorikeet/core/error.h"

namespace lorikeet {
namespace {

constexpr std::string_view kPrefix = "optimizer.";

struct Part {
  const char* name;
  torch::Tensor AdamWState::*tensor;
};
constexpr std::array<Part, 3> kParts = {{{"exp_avg", &AdamWState::exp_avg},
                                         {"exp_avg_sq", &AdamWState::exp_avg_sq},
                                         {"step", &AdamWState::step}}};

std::string state_name(const char* part, const std::string& parameter) {
  return fmt::format("{}{}.{}", kPrefix, part, parameter);
}

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

[[noreturn]] void refuse_state(const std::string& name, const std::string& rule) {
  throw Error(ExitCode::kCheckpoint, fmt::format("optimizer state '{}' {}", name, rule),
              "the checkpoint belongs to another model or optimizer");
}

}  // namespace

bool is_decayed(const torch::Tensor& parameter) { return parameter.dim() >= 2; }

AdamW::AdamW(NamedParameters parameters, const OptimizerConfig& config)
    : parameters_(std::move(parameters)),
      beta1_(config.betas.at(0)),
      beta2_(config.betas.at(1)),
      eps_(config.eps),
      weight_decay_(config.weight_decay) {
  if (config.kind != "adamw") {
    throw Error(ExitCode::kUsage, "optimizer.kind: '" + config.kind + "' is not adamw");
  }
  for (const auto& [name, tensor] : parameters_) {
    check_parameter(name, tensor, parameters_.front().second);
    if (!index_.emplace(name, states_.size()).second) {
      throw Error(ExitCode::kInternal, "optimizer: parameter '" + name + "' is given twice");
    }
    const torch::Tensor data = tensor.detach();
    states_.push_back({torch::zeros_like(data), torch::zeros_like(data),
                       torch::zeros({}, data.options().dtype(torch::kFloat))});
  }
}

void AdamW::step(double learning_rate) { step_if(learning_rate, std::nullopt); }
void AdamW::step(double learning_rate, const torch::Tensor& skip) { step_if(learning_rate, skip); }

void AdamW::step_if(double learning_rate, const std::optional<torch::Tensor>& skip) {
  const torch::NoGradGuard no_grad;
  Group decayed, others;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const torch::Tensor& parameter = parameters_[i].second;
    if (!parameter.grad().defined()) continue;
    (is_decayed(parameter) ? decayed : others).add(parameter, states_[i]);
  }
  for (Group* group : {&decayed, &others}) {
    if (group->parameters.empty()) continue;
    at::_foreach_add_(group->steps, 1);
    at::_fused_adamw_(group->parameters, group->gradients, group->exp_avgs, group->exp_avg_sqs,
                      /*max_exp_avg_sqs=*/{}, group->steps, learning_rate, beta1_, beta2_,
                      group == &decayed ? weight_decay_ : 0.0, eps_, /*amsgrad=*/false,
                      /*maximize=*/false, /*grad_scale=*/{}, skip);
    if (skip)
      at::_foreach_sub_(group->steps, std::vector<torch::Tensor>(group->steps.size(), *skip));
  }
}

void AdamW::zero_grad() {
  for (auto& [name, parameter] : parameters_) parameter.mutable_grad().reset();
}

AdamWState& AdamW::state_of(const std::string& name) {
  const auto found = index_.find(name);
  if (found != index_.end()) return states_[found->second];
  throw Error(ExitCode::kInternal, "optimizer: there is no parameter '" + name + "'");
}

NamedParameters AdamW::state() const {
  NamedParameters all;
  for (const Part& part : kParts) {
    for (size_t i = 0; i < parameters_.size(); ++i) {
      all.emplace_back(state_name(part.name, parameters_[i].first), states_[i].*part.tensor);
    }
  }
  return all;
}

void AdamW::load_state(const NamedParameters& tensors) {
  std::unordered_map<std::string, torch::Tensor> given;
  for (const auto& [name, tensor] : tensors) {
    if (name.starts_with(kPrefix)) given.emplace(name, tensor);
  }
  const NamedParameters mine = state();
  for (const auto& [name, tensor] : mine) {
    const auto found = given.find(name);
    if (found == given.end()) refuse_state(name, "is missing");
    if (found->second.sizes() != tensor.sizes() ||
        found->second.scalar_type() != tensor.scalar_type()) {
      refuse_state(
          name, fmt::format("is {}, but {} is needed", describe(found->second), describe(tensor)));
    }
  }
  if (given.size() > mine.size()) {
    for (const auto& [name, tensor] : mine) given.erase(name);
    refuse_state(given.begin()->first, "belongs to no parameter of this model");
  }
  for (const auto& [name, tensor] : mine) tensor.copy_(given.at(name));
}

void AdamW::reset() {
  for (const auto& [name, tensor] : state()) tensor.zero_();
}

}  // namespace lorikeet
