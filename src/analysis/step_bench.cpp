#include "lorikeet/analysis/step_bench.h"

#include <fmt/format.h>
#include <torch/torch.h>

#include <chrono>
#include <limits>
#include <nlohmann/json.hpp>

#include "lorikeet/analysis/step_profile.h"
#include "lorikeet/core/measure.h"
#include "lorikeet/model/flops.h"
#include "lorikeet/ops/micro_kernel.h"
#include "lorikeet/optim/clip.h"
#include "lorikeet/train/batch_loss.h"
#include "lorikeet/train/device.h"
#include "lorikeet/train/training_state.h"

namespace lorikeet {

namespace {

/// Random tokens, as two documents, which count where a scope is the document.
Sequence random_sequence(const ModelConfig& model) {
  const int64_t L = model.context_length;
  const auto half = static_cast<int32_t>((L + 1) / 2), rest = static_cast<int32_t>(L - half);
  const torch::Tensor ids = torch::randint(model.vocab_size, {L + 1}, torch::kInt);
  const auto* const tokens = ids.const_data_ptr<int32_t>();
  Sequence sequence{.tokens = {tokens, tokens + L + 1}, .document_lengths = {half}};
  if (rest > 0) sequence.document_lengths.push_back(rest);
  return sequence;
}

/// The best of three; 0 where there is no such micro-kernel.
double micro_kernel_peak(torch::ScalarType dtype) {
  double best = 0;
  for (int i = 0; i < 3; ++i) {
    best = std::max(best, ops::measure_micro_kernel(dtype, /*repetitions=*/500));
  }
  return best;
}

/// bf16 is computed in fp32 where the processor has no instructions for it.
double micro_kernel_peak(Precision precision) {
  const double bf16 = precision == Precision::kBf16 ? micro_kernel_peak(torch::kBFloat16) : 0;
  return bf16 > 0 ? bf16 : micro_kernel_peak(torch::kFloat);
}

class Bench {
 public:
  explicit Bench(const RunConfig& config)
      : config_(config), world_(World::single(torch::kCPU)), state_(config, *world_) {
    torch::manual_seed(config.seed);
    const int64_t micro = config.train.micro_batch;
    for (int64_t i = 0; i < config.train.batch_sequences; i += micro) {
      std::vector<Sequence>& sequences = micro_batches_.emplace_back();
      for (int64_t k = 0; k < micro; ++k) sequences.push_back(random_sequence(config.model));
    }
  }

  int64_t parameters() const {
    int64_t sum = 0;
    for (const torch::Tensor& p : state_.model->parameters()) sum += p.numel();
    return sum;
  }

  int64_t tokens() const { return config_.train.batch_sequences * config_.model.context_length; }

  /// One step. Phases are in the order in which they end.
  void step() {
    phases.clear();
    const auto start = std::chrono::steady_clock::now();
    StepProfile profile;
    state_.sharded->zero_grad();
    double loss_sum = 0, data = 0, forward = 0, backward = 0;
    for (size_t i = 0; i < micro_batches_.size(); ++i) {
      auto begin = std::chrono::steady_clock::now();
      const TokenBatch batch = make_batch(micro_batches_[i], world_->device());
      data += seconds_since(begin);
      begin = std::chrono::steady_clock::now();
      state_.sharded->begin_backward(/*is_last=*/i + 1 == micro_batches_.size());
      const BatchLoss loss = compute_loss(state_.model, batch);
      forward += seconds_since(begin);
      begin = std::chrono::steady_clock::now();
      (loss.sum / static_cast<double>(tokens())).backward();
      state_.sharded->end_backward();
      backward += seconds_since(begin);
      loss_sum += loss.sum.item<double>();
    }
    phases.emplace_back("data", data);
    add_parts("forward ", forward, profile);
    add_parts("recompute ", 0, profile);
    add_parts("backward ", backward, profile);
    const auto clip_begin = std::chrono::steady_clock::now();
    std::vector<torch::Tensor> tensors;
    for (const OptimizerTensor& t : state_.sharded->optimizer_tensors())
      tensors.push_back(t.values);
    clip_gradients(tensors, config_.optimizer.clip_norm);
    phases.emplace_back("clip", seconds_since(clip_begin));
    const auto optimizer_begin = std::chrono::steady_clock::now();
    state_.optimizer->step(config_.schedule.peak);
    state_.sharded->publish();
    phases.emplace_back("optimizer", seconds_since(optimizer_begin));
    loss = loss_sum / static_cast<double>(tokens());
    seconds = seconds_since(start);
  }

  double loss = 0, seconds = 0;
  std::vector<std::pair<std::string, double>> phases;

 private:
  /// The parts of one pass, and what is left of its time.
  void add_parts(const std::string& pass, double whole, const StepProfile& profile) {
    double rest = whole;
    for (const auto& [name, part_seconds] : profile.seconds()) {
      if (!name.starts_with(pass) || name == pass + "rest") continue;
      phases.emplace_back(name, part_seconds);
      rest -= part_seconds;
    }
    if (whole > 0) phases.emplace_back(pass + "rest", rest);
  }

  RunConfig config_;
  std::shared_ptr<World> world_;
  TrainingState state_;
  std::vector<std::vector<Sequence>> micro_batches_;
};

}  // namespace

StepTiming bench_step(const RunConfig& given, int64_t repetitions) {
  RunConfig config = given;
  config.train.device = DeviceChoice::kCpu;
  set_up_computation(config.train);
  Bench bench(config);
  StepTiming timing;
  timing.seconds = std::numeric_limits<double>::infinity();
  for (int64_t i = 0; i <= repetitions; ++i) {
    bench.step();
    if (i == 0 || bench.seconds >= timing.seconds) continue;
    timing.seconds = bench.seconds;
    timing.phases = bench.phases;
  }
  timing.loss = bench.loss;
  timing.tokens = bench.tokens();
  timing.parameters = bench.parameters();
  timing.peak_memory_bytes = peak_memory_bytes();
  timing.planned_memory = plan_run(config).memory;
  timing.matrix_flops_per_second =
      training_flops_per_token(config.model) * timing.tokens_per_second();
  timing.peak_flops_per_second = micro_kernel_peak(config.train.precision);
  return timing;
}

std::string to_text(const StepTiming& t) {
  std::string text = fmt::format(
      "{:.1f}M parameters, {} tokens a step: {:.3f} s, {:.0f} tokens/s, loss {:.4f}\n"
      "matrix FLOPs {:.0f} GFLOP/s",
      t.parameters / 1e6, t.tokens, t.seconds, t.tokens_per_second(), t.loss,
      t.matrix_flops_per_second / 1e9);
  if (t.peak_flops_per_second > 0) {
    text += fmt::format(", {:.0f}% of the micro-kernel's {:.0f}",
                        100 * t.matrix_flops_per_second / t.peak_flops_per_second,
                        t.peak_flops_per_second / 1e9);
  }
  text += fmt::format("\npeak memory {:.2f} GB, planned {:.2f}\n", t.peak_memory_bytes / 1e9,
                      t.planned_memory.total() / 1e9);
  for (const MemoryKind& kind : by_kind(t.planned_memory)) {
    text += fmt::format("  {:<24}{:>9.3f} GB\n", kind.name, kind.bytes / 1e9);
  }
  for (const auto& [name, seconds] : t.phases) {
    text += fmt::format("  {:<24}{:>9.1f} ms {:>5.1f}%\n", name, 1e3 * seconds,
                        100 * seconds / t.seconds);
  }
  return text;
}

std::string to_json(const StepTiming& t) {
  nlohmann::ordered_json row{{"tokens_per_second", t.tokens_per_second()},
                             {"peak_memory_bytes", t.peak_memory_bytes},
                             {"planned_memory_bytes", t.planned_memory.total()},
                             {"matrix_flops_per_second", t.matrix_flops_per_second},
                             {"micro_kernel_flops_per_second", t.peak_flops_per_second},
                             {"seconds", t.seconds},
                             {"tokens", t.tokens},
                             {"parameters", t.parameters},
                             {"loss", t.loss}};
  for (const MemoryKind& kind : by_kind(t.planned_memory))
    row["planned_memory"][kind.name] = kind.bytes;
  for (const auto& [name, seconds] : t.phases) row["phases"][name] = seconds;
  return row.dump() + '\n';
}

}  // namespace lorikeet
