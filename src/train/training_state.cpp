#include "lorikeet/train/training_state.h"

#include <ATen/CPUGeneratorImpl.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "lorikeet/core/error.h"
#include "lorikeet/model/initialise.h"
#include "lorikeet/model/parameter_units.h"

namespace lorikeet {

namespace {

const char* const kCpuGenerator = "random.cpu";
const char* const kCudaGenerator = "random.cuda";
const char* const kPhase = "phase";  // of CheckpointContent::states
const char* const kData = "data";

constexpr std::array<std::pair<const char*, torch::Tensor AdamWState::*>, 2> kMoments = {
    {{"exp_avg", &AdamWState::exp_avg}, {"exp_avg_sq", &AdamWState::exp_avg_sq}}};

std::string optimizer_name(const std::string& part, const std::string& parameter) {
  return fmt::format("optimizer.{}.{}", part, parameter);
}

/// The parameter that a tensor of a checkpoint is, or belongs to.
std::string parameter_of(const std::string& tensor) {
  if (!tensor.starts_with("optimizer.")) return tensor;
  return tensor.substr(tensor.find('.', tensor.find('.') + 1) + 1);
}

/// The part of [begin, begin + numel) that this replica saves: replicas hold the same.
std::pair<int64_t, int64_t> share_of(const ParameterPiece& piece, const DeviceMesh& mesh) {
  const int64_t replicas = mesh.shape().replicate;
  const int64_t first = piece.numel * mesh.replica() / replicas;
  return {first, piece.numel * (mesh.replica() + 1) / replicas - first};
}

}  // namespace

int64_t dense_warmup_steps(const RunConfig& config) {
  const Period& period = config.train.dense_warmup;
  return period.is_never() ? 0 : period.to_steps(total_steps(config), tokens_per_step(config));
}

bool is_of_dense_warmup(const CheckpointContent& content) {
  const auto phase = content.states.find(kPhase);
  if (phase != content.states.end()) {
    return nlohmann::json::parse(phase->second).at("dense_warmup").get<bool>();
  }
  throw Error(ExitCode::kCheckpoint,
              fmt::format("the checkpoint of step {} does not say whether it is of a dense warm-up",
                          content.step),
              "it is not of a training run: give the checkpoint of one");
}

TrainingState::TrainingState(const RunConfig& config, World& world)
    : guard(config.safety), config_(config), world_(&world) {
  torch::manual_seed(config.seed);
  const bool is_dense = dense_warmup_steps(config) > 0;
  build(is_dense, [&](const std::string& name, torch::Tensor parameter) {
    initialise_parameter(model->config(), name, std::move(parameter), config.seed);
  });
}

/// @param fill  null: left uninitialised, for a checkpoint's values
void TrainingState::build(bool is_dense_warmup, const ShardedParameters::Fill& fill) {
  release();
  is_dense_warmup_ = is_dense_warmup;
  ModelConfig config = config_.model;
  if (is_dense_warmup) config.feed_forward.kind = FeedForwardKind::kDense;
  // Uninitialised memory that nobody has touched takes none: each unit moves to the device when its
  // values are made.
  model = LanguageModel(config, torch::TensorOptions(torch::kFloat32));
  if (config_.train.precision == Precision::kBf16) model->set_compute_dtype(torch::kBFloat16);
  model->set_checkpointing(config_.train.activation_checkpointing);
  const auto nothing = [](const std::string&, const torch::Tensor&) {};
  sharded = std::make_unique<ShardedParameters>(parameter_units(*model), world_->zero(),
                                                world_->mesh(), fill ? fill : nothing);
  model->set_unit_schedule(sharded.get());
  optimizer = std::make_unique<AdamW>(AdamW::over(sharded->optimizer_tensors(), config_.optimizer));
  wanted_.clear();
  for (const ParameterPiece& piece : sharded->pieces()) {
    wanted_[piece.name].emplace_back(piece.begin, piece.begin + piece.numel);
  }
}

void TrainingState::release() {
  optimizer.reset();
  sharded.reset();
  model = nullptr;
}

void TrainingState::end_dense_warmup() {
  const LanguageModel dense = model;
  const std::unique_ptr<ShardedParameters> dense_sharded = std::move(sharded);
  const std::unique_ptr<AdamW> dense_optimizer = std::move(optimizer);
  dense_sharded->while_gathered([&] {
    build(/*is_dense_warmup=*/false, [&](const std::string& name, torch::Tensor parameter) {
      copy_dense_parameter(*dense, config_.model, name, std::move(parameter), config_.seed);
    });
  });
  if (config_.train.dense_warmup_optimizer == WarmupState::kKeep) {
    copy_moments(*dense_sharded, *dense_optimizer);
  }
}

/// Moments of the dense run, spread over all experts. A router has none yet.
void TrainingState::copy_moments(ShardedParameters& dense, AdamW& dense_optimizer) {
  const torch::NoGradGuard no_grad;
  const size_t num_tensors = dense.optimizer_tensors().size();
  const auto is_router = [](const std::string& name) {
    return name.find(".router.") != std::string::npos;
  };
  for (const auto& [part, moment] : kMoments) {
    std::vector<torch::Tensor> mine;
    for (size_t i = 0; i < num_tensors; ++i) mine.push_back(dense_optimizer.state_at(i).*moment);
    for (int64_t unit = 0; unit < dense.num_units(); ++unit) {
      const torch::Tensor all = dense.gather_unit(unit, mine);
      for (const ParameterPiece& piece : sharded->pieces()) {
        if (is_router(piece.name)) continue;
        const auto from = dense.place_of(dense_parameter_name(piece.name));
        if (from.unit != unit) continue;
        const torch::Tensor to = optimizer->state_at(piece.tensor).*moment;
        for (int64_t done = 0; done < piece.numel;) {  // an expert begins where the last has ended
          const int64_t begin = (piece.begin + done) % from.numel;
          const int64_t count = std::min(piece.numel - done, from.numel - begin);
          to.narrow(0, piece.offset + done, count).copy_(all.narrow(0, from.offset + begin, count));
          done += count;
        }
      }
    }
  }
  const torch::Tensor step = dense_optimizer.state_at(0).step;
  for (const ParameterPiece& piece : sharded->pieces()) {
    if (!is_router(piece.name)) optimizer->state_at(piece.tensor).step.copy_(step);
  }
}

CheckpointContent TrainingState::to_checkpoint() const {
  const DeviceMesh& mesh = world_->mesh();
  CheckpointContent content;
  content.step = step;
  content.tokens = tokens;
  content.sequences = cursor.position();
  for (const ParameterPiece& piece : sharded->pieces()) {
    const auto [first, count] = share_of(piece, mesh);
    const auto add = [&, first = first, count = count](const std::string& name,
                                                       const torch::Tensor& flat) {
      content.tensors.push_back({name, piece.shape.vec(), piece.begin + first,
                                 flat.detach().narrow(0, piece.offset + first, count)});
    };
    const AdamWState& state = optimizer->state_at(piece.tensor);
    add(piece.name, sharded->optimizer_tensors()[piece.tensor].values);
    for (const auto& [part, moment] : kMoments) {
      add(optimizer_name(part, piece.name), state.*moment);
    }
    if (piece.begin == 0 && mesh.replica() == 0) {
      content.tensors.push_back(whole_piece(optimizer_name("step", piece.name), state.step));
    }
  }
  if (world_->is_first()) {
    content.tensors.push_back(
        whole_piece(kCpuGenerator, at::detail::getDefaultCPUGenerator().get_state()));
    if (world_->device().is_cuda()) {
      const auto generator = at::globalContext().defaultGenerator(world_->device());
      content.tensors.push_back(whole_piece(kCudaGenerator, generator.get_state()));
    }
  }
  content.states["guard"] = guard.state();
  content.states[kPhase] = nlohmann::json{{"dense_warmup", is_dense_warmup_}}.dump();
  content.states[kData] = nlohmann::json{{"reshuffled_at", reshuffled_at}}.dump();
  return content;
}

bool TrainingState::wants(const CheckpointContent& head, const std::string& name, int64_t begin,
                          int64_t numel) {
  if (is_of_dense_warmup(head) != is_dense_warmup_) build(!is_dense_warmup_, nullptr);
  const auto ranges = wanted_.find(parameter_of(name));
  if (ranges == wanted_.end()) return name == kCpuGenerator || name == kCudaGenerator;
  if (name.starts_with(optimizer_name("step", ""))) return true;
  return std::any_of(ranges->second.begin(), ranges->second.end(), [&](const auto& range) {
    return begin < range.second && range.first < begin + numel;
  });
}

void TrainingState::restore(const CheckpointContent& content) {
  build(is_of_dense_warmup(content), nullptr);
  const torch::NoGradGuard no_grad;
  for (const ParameterPiece& piece : sharded->pieces()) {
    copy_range(content, piece.name, piece.shape, piece.begin,
               sharded->optimizer_tensors()[piece.tensor].values.detach().narrow(0, piece.offset,
                                                                                 piece.numel));
  }
  sharded->publish();
  restore_optimizer(content);
  auto cpu_generator = at::detail::getDefaultCPUGenerator();
  cpu_generator.set_state(whole_tensor(content, kCpuGenerator).clone());
  if (world_->device().is_cuda() && has_tensor(content, kCudaGenerator)) {
    auto generator = at::globalContext().defaultGenerator(world_->device());
    generator.set_state(whole_tensor(content, kCudaGenerator).clone());
  }
  guard.load_state(content.states.at("guard"));
  if (const auto data = content.states.find(kData); data != content.states.end()) {
    reshuffled_at = nlohmann::json::parse(data->second).at("reshuffled_at").get<int64_t>();
  }
  cursor.seek(content.sequences);
  step = content.step;
  tokens = content.tokens;
}

void TrainingState::restore_optimizer(const CheckpointContent& content) {
  for (const ParameterPiece& piece : sharded->pieces()) {
    AdamWState& state = optimizer->state_at(piece.tensor);
    for (const auto& [part, moment] : kMoments) {
      copy_range(content, optimizer_name(part, piece.name), piece.shape, piece.begin,
                 (state.*moment).narrow(0, piece.offset, piece.numel));
    }
    copy_range(content, optimizer_name("step", piece.name), {}, 0, state.step.view({1}));
  }
}

}  // namespace lorikeet
