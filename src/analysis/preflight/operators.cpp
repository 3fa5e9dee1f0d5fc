// The device's operators against the CPU's reference in fp64.
//
// N tokens, G segments, D model, F feed-forward width, E experts, A heads, H head size, V words.
#include <fmt/format.h>

#include <algorithm>

#include "checks.h"
#include "lorikeet/ops/attention.h"
#include "lorikeet/ops/cross_entropy.h"
#include "lorikeet/ops/functions.h"
#include "lorikeet/ops/linear.h"
#include "lorikeet/ops/merged_ffn.h"
#include "lorikeet/ops/merged_linear.h"
#include "lorikeet/ops/rms_norm.h"
#include "lorikeet/ops/rope.h"

namespace lorikeet {

namespace {

using torch::Tensor;
using Tensors = std::vector<Tensor>;

// Relative errors. fp32 sums of a thousand products stay within some 1e-6; bf16 rounds inputs' sums
// and what lies between, a few times 2^-9 each.
constexpr double kFp32 = 1e-4, kBf16 = 2e-2;

/// An operator with its differentiable inputs.
struct Operator {
  std::string name;
  Tensors inputs;                ///< fp64
  std::vector<bool> stays_fp32;  ///< of the inputs; empty: none
  std::function<Tensor(const Tensors&, bool reference)> apply;
};

/// `width`, or one of at most `most` that is as far from a multiple of 8.
int64_t shrunk(int64_t width, int64_t most) {
  return width <= most ? width : (most - width % 8) / 8 * 8 + width % 8;
}

/// Shapes after the model's: the number of experts and whether widths are multiples of 8 decide on
/// the way that an operator takes. The more experts, the narrower: all are to fit in 4M numbers.
struct Shapes {
  explicit Shapes(const ModelConfig& model)
      : E(model.is_merged() ? model.feed_forward.num_experts : 1),
        D(shrunk(model.hidden_size, 512)),
        F(shrunk(model.ffn_size, std::clamp<int64_t>((int64_t{4} << 20) / E / D, 16, 1024))),
        H(model.head_size()),
        V(std::min<int64_t>(model.vocab_size, 4096)) {}
  int64_t E, D, F, H, V;
  std::vector<int64_t> offsets{0, 128, 133, 133, 256};  ///< ragged, one segment is empty
  int64_t N() const { return offsets.back(); }
  int64_t G() const { return static_cast<int64_t>(offsets.size()) - 1; }
};

Tensor random(const std::vector<int64_t>& sizes, int64_t fan_in = 1) {
  return torch::randn(sizes, torch::kDouble) / std::sqrt(static_cast<double>(fan_in));
}

std::vector<Operator> merged_operators(const Shapes& s) {
  const Tensor x = random({s.N(), s.D});
  const Tensor routing = torch::softmax(random({s.G(), s.E}), -1);
  const Tensors experts = {random({s.E, s.F, s.D}, s.D), random({s.E, s.F, s.D}, s.D),
                           random({s.E, s.D, s.F}, s.F)};
  const auto ffn = [o = s.offsets](const Tensors& t, bool reference) {
    return ops::merged_ffn(t[0], o, t[1], t[2], t[3], t[4], reference);
  };
  const Tensors arguments = {x, routing, experts[0], experts[1], experts[2]};
  return {{"merged_ffn", arguments, {false, true, false, false, false}, ffn},
          {"merged_ffn of fp32 experts", arguments, {false, true, true, true, true}, ffn},
          {"merged_linear",
           {x, routing, experts[0]},
           {false, true, false},
           [o = s.offsets](const Tensors& t, bool reference) {
             return ops::merged_linear(t[0], o, t[1], t[2], reference);
           }}};
}

std::vector<Operator> other_operators(const Shapes& s) {
  const std::vector<int64_t> heads = {1, s.N(), 2, s.H};
  const Tensor positions = torch::arange(s.N()), targets = torch::randint(s.V, {s.N()});
  return {
      {"causal_attention",
       {random(heads), random(heads), random(heads)},
       {},
       [](const Tensors& t, bool reference) {
         return ops::causal_attention(t[0].transpose(1, 2), t[1].transpose(1, 2),
                                      t[2].transpose(1, 2), reference);
       }},
      {"linear",
       {random({s.N(), s.D}), random({s.F, s.D}, s.D)},
       {false, true},
       [](const Tensors& t, bool reference) { return ops::linear(t[0], t[1], reference); }},
      {"rms_norm",
       {random({s.N(), s.D}), random({s.D})},
       {false, true},
       [](const Tensors& t, bool reference) { return ops::rms_norm(t[0], t[1], 1e-5, reference); }},
      {"apply_rope",
       {random(heads), random(heads)},
       {},
       [positions, H = s.H](const Tensors& t, bool reference) {
         const Tensor here = positions.to(t[0].device());
         const auto table = ops::make_rope_table(here, H, 10000);
         const auto [q, k] = ops::apply_rope(t[0], t[1], table, reference);
         return torch::cat({q, k}, 2);
       }},
      {"segment_mean",
       {random({s.N(), s.D})},
       {},
       [](const Tensors& t, bool) {
         return ops::segment_mean(t[0], {0, 100, t[0].size(0)});
       }},
      {"linear_cross_entropy",
       {random({s.N(), s.D}), random({s.V, s.D}, s.D)},
       {},
       [targets](const Tensors& t, bool reference) {
         return ops::linear_cross_entropy(t[0], t[1], targets.to(t[0].device()), reference).sum;
       }}};
}

/// The result and the gradients of all inputs.
Tensors results(const Operator& op, const Tensors& inputs, const Tensor& dy, bool reference) {
  Tensors leaves;
  for (const Tensor& input : inputs) leaves.push_back(input.detach().requires_grad_());
  const Tensor y = op.apply(leaves, reference);
  const Tensor scale = dy.to(y.device(), y.scalar_type()).view(y.sizes());
  Tensors all = torch::autograd::grad({y}, leaves, {scale});
  all.push_back(y.detach());
  return all;
}

double error_of(const Operator& op, torch::Device device, torch::ScalarType dtype) {
  Tensors rounded, exact;  // the reference gets what the operator gets
  for (size_t i = 0; i < op.inputs.size(); ++i) {
    const bool is_fp32 = i < op.stays_fp32.size() && op.stays_fp32[i];
    rounded.push_back(op.inputs[i].to(device, is_fp32 ? torch::kFloat : dtype));
    exact.push_back(rounded.back().to(torch::kCPU, torch::kDouble));
  }
  Tensor y;
  {
    const torch::NoGradGuard no_graph;
    y = op.apply(exact, /*reference=*/true);
  }
  const Tensor dy = torch::randn_like(y).to(dtype).to(torch::kDouble);
  const Tensors actual = results(op, rounded, dy, /*reference=*/false);
  const Tensors expected = results(op, exact, dy, /*reference=*/true);
  double worst = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const Tensor difference = actual[i].to(torch::kCPU, torch::kDouble) - expected[i];
    const double error = difference.norm().item<double>() / expected[i].norm().item<double>();
    worst = error <= worst ? worst : error;  // not a number is the worst
  }
  return worst;
}

}  // namespace

std::vector<int64_t> operator_widths(const ModelConfig& model) {
  const Shapes shapes(model);
  return {shapes.E, shapes.D, shapes.F};
}

std::vector<OperatorError> operator_errors(const ModelConfig& model, torch::Device device) {
  torch::manual_seed(1);
  const Shapes shapes(model);
  std::vector<OperatorError> errors;
  for (const auto& operators : {merged_operators(shapes), other_operators(shapes)}) {
    for (const Operator& op : operators) {
      for (const auto dtype : {torch::kFloat, torch::kBFloat16}) {
        errors.push_back(
            {op.name, dtype == torch::kFloat ? "fp32" : "bf16", error_of(op, device, dtype)});
      }
    }
  }
  return errors;
}

void check_operators(Checklist& list, const ModelConfig& model, torch::Device device) {
  const std::string rule = fmt::format("within {} in fp32, {} in bf16", kFp32, kBf16);
  list.run(fmt::format("operators on {}", device.str()), rule, [&] {
    double worst = 0;  // as a part of what is allowed
    std::string figure;
    for (const auto& [name, dtype, error] : operator_errors(model, device)) {
      const double part = error / (dtype == "fp32" ? kFp32 : kBf16);
      if (part < worst) continue;
      worst = std::isnan(part) ? 1e300 : part;
      figure = fmt::format("{:.1e} off the CPU in fp64 at most ({}, {})", error, name, dtype);
      if (std::isnan(part)) break;
    }
    return judge(worst <= 1, figure, worst);
  });
}

}  // namespace lorikeet
