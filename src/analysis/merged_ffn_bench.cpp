// N tokens, D model, F feed-forward width, E experts, G segments.
#include "lorikeet/analysis/merged_ffn_bench.h"

#include <fmt/format.h>
#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <limits>
#include <optional>

#include "lorikeet/core/cuda_backend.h"
#include "lorikeet/core/error.h"
#include "lorikeet/ops/linear.h"
#include "lorikeet/ops/merged_ffn.h"
#include "lorikeet/ops/micro_kernel.h"
#include "lorikeet/ops/workspace.h"
#include "lorikeet/train/device.h"

namespace lorikeet {

namespace {

using torch::Tensor;

constexpr double kNever = std::numeric_limits<double>::infinity();

double milliseconds(const torch::Device& device, const std::function<void()>& work) {
  const auto wait = [&] {
    if (device.is_cuda()) torch::cuda::synchronize();
  };
  wait();
  const auto begin = std::chrono::steady_clock::now();
  work();
  wait();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin)
      .count();
}

/// A layer with its input, ready to be run again and again.
class Candidate {
 public:
  Candidate(const MergedFfnShape& shape, const std::string& form, int64_t E,
            const torch::Device& device)
      : timing{shape, form, E, kNever, kNever, 0, 0},
        is_reference_(form == "reference"),
        is_batched_(form == "batched"),
        is_library_(form == "dense" && device.is_cuda()) {
    const int64_t N = shape.tokens, D = shape.hidden_size, F = shape.ffn_size;
    const int64_t T = form == "dense" ? N : shape.segment_length;
    for (int64_t row = 0; row < N; row += T) offsets_.push_back(row);
    offsets_.push_back(N);
    const auto G = static_cast<int64_t>(offsets_.size()) - 1;
    const auto dtype = shape.dtype == "fp32" ? torch::kFloat : torch::kBFloat16;
    const auto experts = shape.dtype == "bf16" ? torch::kBFloat16 : torch::kFloat;
    torch::manual_seed(1);
    dy_ND_ = torch::randn({N, D}).to(dtype);
    inputs_ = {torch::randn({N, D}).to(dtype), torch::softmax(torch::randn({G, E}), -1)};
    for (const auto& size : {std::vector<int64_t>{E, F, D}, {E, F, D}, {E, D, F}}) {
      inputs_.push_back((torch::randn(size) * 0.02).to(experts));
    }
    dy_ND_ = dy_ND_.to(device);
    for (Tensor& input : inputs_) input = input.to(device).requires_grad_();
    if (E == 1) inputs_[1].requires_grad_(false);  // a dense layer has no router
  }

  void measure() {
    std::optional<ops::WithBatchedProducts> batched;
    if (is_batched_) batched.emplace();
    timing.forward_ms = std::min(timing.forward_ms, milliseconds(dy_ND_.device(), [&] {
                                   const torch::NoGradGuard no_graph;
                                   apply();
                                 }));
    timing.ms =
        std::min(timing.ms, milliseconds(dy_ND_.device(), [&] { apply().backward(dy_ND_); }));
    for (Tensor& input : inputs_) input.mutable_grad() = Tensor();
    if (is_reference_ || is_library_) return;
    timing.workspace_bytes =
        std::max({timing.workspace_bytes, ops::tiled_workspace_bytes(/*backward=*/false),
                  ops::tiled_workspace_bytes(/*backward=*/true)});
    if (dy_ND_.is_cpu()) timing.saved_bytes = ops::tiled_saved_bytes();
  }

  /// Whether kernels of ours take it on a GPU; without them merged is the same as batched.
  bool has_kernels() const { return ops::has_merged_ffn_kernels(inputs_[0], offsets_, inputs_[2]); }

  MergedFfnTiming timing;

 private:
  Tensor apply() const {
    if (is_library_) return apply_dense();
    return ops::merged_ffn(inputs_[0], offsets_, inputs_[1], inputs_[2], inputs_[3], inputs_[4],
                           is_reference_);
  }
  /// As a dense model's layer is on a GPU.
  Tensor apply_dense() const {
    const auto product = [&](const Tensor& x, size_t i) {
      return ops::linear(x, inputs_[i].squeeze(0));
    };
    return product(torch::silu(product(inputs_[0], 2)) * product(inputs_[0], 3), 4);
  }

  bool is_reference_, is_batched_, is_library_;
  std::vector<int64_t> offsets_;
  Tensor dy_ND_;
  std::vector<Tensor> inputs_;  // x, routing, gate, up, down
};

/// What the device can do, as a form: the time it would take for a dense layer's FLOPs.
class Peak {
 public:
  Peak(const MergedFfnShape& shape, double flops, const torch::Device& device)
      : timing{shape, "peak", 1, kNever, kNever, 0, 0},
        flops_(flops),
        device_(device),
        dtype_(shape.dtype == "fp32" ? torch::kFloat : torch::kBFloat16) {}

  void measure() {
    constexpr int64_t kRepetitions = 1000;  // some 30 ms
    const double rate = device_.is_cuda() ? measure_peak_flops(device_, dtype_)
                                          : ops::measure_micro_kernel(dtype_, kRepetitions);
    if (rate == 0) return;
    timing.ms = std::min(timing.ms, 1e3 * flops_ / rate);
    timing.forward_ms = timing.ms / 3;  // 6 of 18 N D F
  }
  bool exists() const { return timing.ms < kNever; }

  MergedFfnTiming timing;

 private:
  double flops_;
  torch::Device device_;
  torch::ScalarType dtype_;
};

void require(const MergedFfnShape& shape) {
  const auto& [D, F, N, T, dtype] = shape;
  if (D < 1 || F < 1 || N < 1 || T < 1) {
    throw Error(ExitCode::kUsage, "bench merged-ffn: widths, tokens and segment length start at 1");
  }
  if (dtype != "fp32" && dtype != "bf16" && dtype != "mixed") {
    throw Error(ExitCode::kUsage, fmt::format("bench merged-ffn: no dtype '{}'", dtype),
                "fp32, bf16 or mixed");
  }
}

torch::Device device_of(const std::string& name) {
  if (name == "cpu") return torch::kCPU;
  if (name != "cuda") {
    throw Error(ExitCode::kUsage, fmt::format("bench merged-ffn: no device '{}'", name),
                "cpu or cuda");
  }
  std::string why_not;
  if (load_cuda_backend(&why_not) && torch::cuda::is_available()) return {torch::kCUDA, 0};
  throw Error(ExitCode::kUsage,
              fmt::format("bench merged-ffn: device cuda is not available here: {}", why_not),
              "use --device cpu");
}

}  // namespace

std::vector<MergedFfnTiming> run(const MergedFfnBench& bench) {
  std::vector<MergedFfnTiming> timings;
  const torch::Device device = device_of(bench.device);
  for (const MergedFfnShape& shape : bench.shapes) {
    require(shape);
    std::vector<Candidate> candidates;
    candidates.emplace_back(shape, "dense", 1, device);
    for (const int64_t E : bench.experts) {
      candidates.emplace_back(shape, "merged", E, device);
      if (device.is_cuda() && !candidates.back().has_kernels()) candidates.pop_back();
      if (device.is_cuda()) candidates.emplace_back(shape, "batched", E, device);
      if (bench.with_reference) candidates.emplace_back(shape, "reference", E, device);
    }
    // The first round, which also compiles micro-kernels, doesn't lose against later ones: best of.
    const double flops = 18.0 * static_cast<double>(shape.tokens * shape.hidden_size) *
                         static_cast<double>(shape.ffn_size);
    Peak peak(shape, flops, device);
    for (int64_t i = 0; i <= bench.repetitions; ++i) {
      peak.measure();
      for (Candidate& candidate : candidates) candidate.measure();
    }
    const auto add = [&](MergedFfnTiming timing) {
      timing.gflops = flops / timing.ms / 1e6;
      timing.over_dense = timing.ms / candidates.front().timing.ms;
      timings.push_back(timing);
    };
    if (peak.exists()) add(peak.timing);
    for (const Candidate& candidate : candidates) add(candidate.timing);
  }
  return timings;
}

std::vector<MergedFfnShape> merged_ffn_sweep(const MergedFfnShape& at) {
  std::vector<MergedFfnShape> shapes;
  for (int64_t T = 64; T <= 1024; T *= 2) {
    shapes.push_back({at.hidden_size, at.ffn_size, at.tokens, T, at.dtype});
  }
  for (int64_t N = std::max<int64_t>(1, at.tokens / 4); N <= 2 * at.tokens; N *= 2) {
    if (N == at.tokens) continue;
    shapes.push_back({at.hidden_size, at.ffn_size, N, at.segment_length, at.dtype});
  }
  return shapes;
}

}  // namespace lorikeet
