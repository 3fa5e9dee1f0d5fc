// N tokens, D model, F feed-forward width, E experts, G segments.
#include "lorikeet/analysis/merged_ffn_bench.h"

#include <fmt/format.h>
#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <limits>

#include "lorikeet/core/error.h"
#include "lorikeet/ops/merged_ffn.h"

namespace lorikeet {

namespace {

using torch::Tensor;

/// A layer with its input, ready to be run again and again.
class Candidate {
 public:
  Candidate(const MergedFfnShape& shape, const std::string& form, int64_t E)
      : timing{shape, form, E, kNever, kNever, 0, 0}, is_reference_(form == "reference") {
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
    for (Tensor& input : inputs_) input.requires_grad_();
    if (E == 1) inputs_[1].requires_grad_(false);  // a dense layer has no router
  }

  void measure() {
    timing.forward_ms = std::min(timing.forward_ms, milliseconds([&] {
                                   const torch::NoGradGuard no_graph;
                                   apply();
                                 }));
    timing.ms = std::min(timing.ms, milliseconds([&] { apply().backward(dy_ND_); }));
    for (Tensor& input : inputs_) input.mutable_grad() = Tensor();
    if (is_reference_) return;
    timing.workspace_bytes =
        std::max({timing.workspace_bytes, ops::merged_ffn_workspace_bytes(/*backward=*/false),
                  ops::merged_ffn_workspace_bytes(/*backward=*/true)});
  }

  MergedFfnTiming timing;

 private:
  static constexpr double kNever = std::numeric_limits<double>::infinity();

  Tensor apply() const {
    return ops::merged_ffn(inputs_[0], offsets_, inputs_[1], inputs_[2], inputs_[3], inputs_[4],
                           is_reference_);
  }
  static double milliseconds(const std::function<void()>& work) {
    const auto begin = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin)
        .count();
  }

  bool is_reference_;
  std::vector<int64_t> offsets_;
  Tensor dy_ND_;
  std::vector<Tensor> inputs_;  // x, routing, gate, up, down
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

}  // namespace

std::vector<MergedFfnTiming> run(const MergedFfnBench& bench) {
  std::vector<MergedFfnTiming> timings;
  for (const MergedFfnShape& shape : bench.shapes) {
    require(shape);
    std::vector<Candidate> candidates;
    candidates.emplace_back(shape, "dense", 1);
    for (const int64_t E : bench.experts) {
      candidates.emplace_back(shape, "merged", E);
      if (bench.with_reference) candidates.emplace_back(shape, "reference", E);
    }
    // The first round, which also compiles micro-kernels, doesn't lose against later ones: best of.
    for (int64_t i = 0; i <= bench.repetitions; ++i) {
      for (Candidate& candidate : candidates) candidate.measure();
    }
    const double flops = 18.0 * static_cast<double>(shape.tokens * shape.hidden_size) *
                         static_cast<double>(shape.ffn_size);
    for (Candidate& candidate : candidates) {
      candidate.timing.gflops = flops / candidate.timing.ms / 1e6;
      candidate.timing.over_dense = candidate.timing.ms / candidates.front().timing.ms;
      timings.push_back(candidate.timing);
    }
  }
  return timings;
}

std::string to_table(const std::vector<MergedFfnTiming>& timings) {
  std::string table = fmt::format(
      "{:>5} {:>6} {:>7} {:>5} {:>6} {:>10} {:>3} {:>9} {:>9} {:>8} {:>7} {:>7}\n", "D", "F",
      "tokens", "T", "dtype", "form", "E", "fwd ms", "f+b ms", "GFLOP/s", "/dense", "MB");
  for (const MergedFfnTiming& t : timings) {
    table += fmt::format(
        "{:>5} {:>6} {:>7} {:>5} {:>6} {:>10} {:>3} {:>9.1f} {:>9.1f} {:>8.0f} {:>7.2f} {:>7}\n",
        t.shape.hidden_size, t.shape.ffn_size, t.shape.tokens, t.shape.segment_length,
        t.shape.dtype, t.form, t.num_experts, t.forward_ms, t.ms, t.gflops, t.over_dense,
        t.form == "reference" ? "" : fmt::format("{:.1f}", t.workspace_bytes / 1e6));
  }
  return table;
}

std::string to_json_lines(const std::vector<MergedFfnTiming>& timings) {
  std::string lines;
  for (const MergedFfnTiming& t : timings) {
    lines += fmt::format(
        "{{\"hidden_size\": {}, \"ffn_size\": {}, \"tokens\": {}, \"segment_length\": {}, "
        "\"dtype\": \"{}\", \"form\": \"{}\", \"num_experts\": {}, \"forward_ms\": {:.3f}, "
        "\"forward_backward_ms\": {:.3f}, \"dense_gflops\": {:.1f}, \"over_dense\": {:.4f}, "
        "\"workspace_bytes\": {}}}\n",
        t.shape.hidden_size, t.shape.ffn_size, t.shape.tokens, t.shape.segment_length,
        t.shape.dtype, t.form, t.num_experts, t.forward_ms, t.ms, t.gflops, t.over_dense,
        t.form == "reference" ? "null" : std::to_string(t.workspace_bytes));
  }
  return lines;
}

}  // namespace lorikeet
