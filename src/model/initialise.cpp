#include "lorikeet/model/initialise.h"

#include <ATen/CPUGeneratorImpl.h>
#include <fmt/format.h>
#include <torch/torch.h>

#include <cmath>
#include <string>
#include <string_view>

#include "lorikeet/core/hash.h"

namespace lorikeet {

namespace {

constexpr double kSmearInitialGain = 0.01;  // SMEAR's released code

bool contains(std::string_view name, std::string_view part) {
  return name.find(part) != std::string_view::npos;
}

/// Standard normal values, truncated at +-bound where bound > 0, from a stream of their own.
torch::Tensor draw(at::IntArrayRef shape, double bound, int64_t seed, std::string_view name) {
  const std::string stream = fmt::format("{}/{}", seed, name);
  at::Generator generator = at::detail::createCPUGenerator(hash64(stream));
  torch::Tensor values = torch::empty(shape, torch::kFloat32);
  if (bound <= 0) return values.normal_(0, 1, generator);
  // Inverse of the normal distribution function, over the part of (0, 1) that lies within the
  // bound.
  const double edge = std::erf(bound / std::sqrt(2.0));
  return values.uniform_(-edge, edge, generator)
      .erfinv_()
      .mul_(std::sqrt(2.0))
      .clamp_(-bound, bound);
}

torch::Tensor expert_values(const ModelConfig& config, at::IntArrayRef shape, int64_t seed,
                            const std::string& name) {
  if (config.feed_forward.expert_init == ExpertInit::kCopied) {
    return draw(shape.slice(1), config.init_truncation, seed, name)
        .mul_(config.init_std)
        .expand(shape);
  }
  const bool preserve = config.feed_forward.expert_init == ExpertInit::kPreserve;
  const double widening = preserve ? std::sqrt(static_cast<double>(shape[0])) : 1.0;
  return draw(shape, config.init_truncation, seed, name).mul_(config.init_std * widening);
}

torch::Tensor initial_values(const ModelConfig& config, const torch::Tensor& parameter,
                             int64_t seed, const std::string& name) {
  const auto shape = parameter.sizes();
  if (contains(name, ".router.")) {
    if (name.ends_with(".weight")) {
      return draw(shape, 0, seed, name).mul_(config.feed_forward.router_init_std);
    }
    if (name.ends_with(".gain")) return torch::full(shape, kSmearInitialGain);
    if (name.ends_with(".input_norm_weight")) return torch::ones(shape);
    return torch::zeros(shape);  // bias, input_norm_bias, prior
  }
  if (parameter.dim() == 1) return torch::ones(shape);  // norms
  if (contains(name, ".experts.")) return expert_values(config, shape, seed, name);
  return draw(shape, config.init_truncation, seed, name).mul_(config.init_std);
}

}  // namespace

void initialise_parameter(const ModelConfig& config, const std::string& name,
                          torch::Tensor parameter, int64_t seed) {
  const torch::NoGradGuard no_grad;
  TORCH_CHECK(!parameter.is_meta(), "cannot initialise ", name, " on meta");
  parameter.copy_(initial_values(config, parameter, seed, name));
}

void initialise_parameters(LanguageModelImpl& model, int64_t seed) {
  for (auto& parameter : model.named_parameters()) {
    initialise_parameter(model.config(), parameter.key(), parameter.value(), seed);
  }
}

std::string dense_parameter_name(const std::string& name) {
  constexpr std::string_view kExperts = ".experts.";
  const auto at = name.find(kExperts);
  if (at == std::string::npos) return name;
  return name.substr(0, at) + "." + name.substr(at + kExperts.size());
}

void copy_dense_parameter(const LanguageModelImpl& dense, const ModelConfig& merged,
                          const std::string& name, torch::Tensor parameter, int64_t seed) {
  const torch::NoGradGuard no_grad;
  const auto from = dense.named_parameters();
  if (const torch::Tensor* source = from.find(dense_parameter_name(name))) {
    parameter.copy_(*source);  // [O, I] spreads over [E, O, I]
  } else {
    TORCH_CHECK(contains(name, ".router."), "the dense model has no ", dense_parameter_name(name));
    initialise_parameter(merged, name, std::move(parameter), seed);
  }
}

void copy_dense_into_experts(const LanguageModelImpl& dense, LanguageModelImpl& merged,
                             int64_t seed) {
  for (auto& parameter : merged.named_parameters()) {
    copy_dense_parameter(dense, merged.config(), parameter.key(), parameter.value(), seed);
  }
}

}  // namespace lorikeet
