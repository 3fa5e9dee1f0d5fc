#include "lorikeet/train/training_state.h"

#include <ATen/CPUGeneratorImpl.h>
#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>

#include "lorikeet/core/error.h"
#include "lorikeet/model/initialise.h"
#include "lorikeet/model/load.h"

namespace lorikeet {

namespace {

const char* const kCpuGenerator = "random.cpu";
const char* const kCudaGenerator = "random.cuda";

NamedParameters trainable(const LanguageModelImpl& model) {
  NamedParameters parameters;
  for (const auto& parameter : model.named_parameters()) {
    parameters.emplace_back(parameter.key(), parameter.value());
  }
  return parameters;
}

/// "...mlp.experts.gate_proj.weight" -> "...mlp.gate_proj.weight"
std::string dense_name(const std::string& name) {
  constexpr std::string_view kExperts = ".experts.";
  const auto at = name.find(kExperts);
  if (at == std::string::npos) return name;
  return name.substr(0, at) + "." + name.substr(at + kExperts.size());
}

/// Moments of the dense run, spread over all experts. A router has none yet.
void copy_moments(AdamW& dense, AdamW& merged) {
  const torch::NoGradGuard no_grad;
  for (const auto& [name, parameter] : merged.parameters()) {
    if (name.find(".router.") != std::string::npos) continue;
    const AdamWState& from = dense.state_of(dense_name(name));
    AdamWState& to = merged.state_of(name);
    to.exp_avg.copy_(from.exp_avg);
    to.exp_avg_sq.copy_(from.exp_avg_sq);
    to.step.copy_(from.step);
  }
}

}  // namespace

int64_t dense_warmup_steps(const RunConfig& config) {
  const Period& period = config.train.dense_warmup;
  return period.is_never() ? 0 : period.to_steps(total_steps(config), tokens_per_step(config));
}

TrainingState::TrainingState(const RunConfig& config, torch::Device device)
    : guard(config.safety), config_(config), device_(device) {
  torch::manual_seed(config.seed);
  build(dense_warmup_steps(config) > 0);
  initialise_parameters(*model, config.seed);
}

void TrainingState::build(bool is_dense_warmup) {
  is_dense_warmup_ = is_dense_warmup;
  ModelConfig config = config_.model;
  if (is_dense_warmup) config.feed_forward.kind = FeedForwardKind::kDense;
  model = LanguageModel(config, torch::TensorOptions(torch::kFloat32).device(device_));
  if (config_.train.precision == Precision::kBf16) model->set_compute_dtype(torch::kBFloat16);
  model->set_checkpointing(config_.train.activation_checkpointing);
  optimizer = std::make_unique<AdamW>(trainable(*model), config_.optimizer);
}

void TrainingState::end_dense_warmup() {
  const LanguageModel dense = model;
  const std::unique_ptr<AdamW> dense_optimizer = std::move(optimizer);
  build(/*is_dense_warmup=*/false);
  copy_dense_into_experts(*dense, *model, config_.seed);
  if (config_.train.dense_warmup_optimizer == WarmupState::kKeep) {
    copy_moments(*dense_optimizer, *optimizer);
  }
}

CheckpointContent TrainingState::to_checkpoint() const {
  CheckpointContent content;
  content.step = step;
  content.tokens = tokens;
  content.sequences = cursor.position();
  content.tensors = named_weights(*model);
  for (const auto& named : optimizer->state()) content.tensors.push_back(named);
  content.tensors.emplace_back(kCpuGenerator, at::detail::getDefaultCPUGenerator().get_state());
  if (device_.is_cuda()) {
    const auto generator = at::globalContext().defaultGenerator(device_);
    content.tensors.emplace_back(kCudaGenerator, generator.get_state());
  }
  content.states["guard"] = guard.state();
  content.states["phase"] = nlohmann::json{{"dense_warmup", is_dense_warmup_}}.dump();
  return content;
}

void TrainingState::restore(const CheckpointContent& content) {
  const auto phase = nlohmann::json::parse(content.states.at("phase"));
  build(phase.at("dense_warmup").get<bool>());
  std::map<std::string, torch::Tensor> tensors(content.tensors.begin(), content.tensors.end());
  const torch::NoGradGuard no_grad;
  for (auto& parameter : model->named_parameters()) {
    const auto found = tensors.find(parameter.key());
    if (found == tensors.end() || found->second.sizes() != parameter.value().sizes()) {
      throw Error(ExitCode::kCheckpoint,
                  fmt::format("the checkpoint of step {} does not hold {} of this model's shape",
                              content.step, parameter.key()),
                  "it belongs to another model: start a new run under another name");
    }
    parameter.value().copy_(found->second);
  }
  optimizer->load_state(content.tensors);
  auto cpu_generator = at::detail::getDefaultCPUGenerator();
  cpu_generator.set_state(tensors.at(kCpuGenerator).clone());
  if (device_.is_cuda() && tensors.contains(kCudaGenerator)) {
    auto generator = at::globalContext().defaultGenerator(device_);
    generator.set_state(tensors.at(kCudaGenerator).clone());
  }
  guard.load_state(content.states.at("guard"));
  cursor.seek(content.sequences);
  step = content.step;
  tokens = content.tokens;
}

}  // namespace lorikeet
