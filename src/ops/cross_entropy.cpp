// N tokens, C of a chunk, D model, V vocabulary.
#include "lorikeet/ops/cross_entropy.h"

#include <ATen/ATen.h>
#include <ATen/OpMathType.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "cpu/level.h"
#include "cpu/merged_linear.h"
#include "cpu/rows.h"
#include "cuda/hook.h"
#include "lorikeet/ops/functions.h"
#include "lorikeet/ops/gradient_sink.h"

namespace lorikeet::ops {

namespace {

using at::Tensor;

constexpr int64_t kIgnored = -100;

void check_arguments(const Tensor& hidden, const Tensor& weight, const Tensor& targets) {
  TORCH_CHECK(hidden.dim() == 2 && weight.dim() == 2 && weight.size(1) == hidden.size(1) &&
                  targets.sizes() == hidden.sizes().slice(0, 1),
              "linear_cross_entropy: hidden ", hidden.sizes(), ", weight ", weight.sizes(),
              ", targets ", targets.sizes(), " must be [N, D], [V, D], [N]");
  const auto dtype = hidden.scalar_type();
  TORCH_CHECK(dtype == at::kFloat || dtype == at::kDouble || dtype == at::kBFloat16,
              "linear_cross_entropy: hidden must be float32, float64 or bfloat16, not ", dtype);
  TORCH_CHECK(weight.scalar_type() == dtype ||
                  (dtype == at::kBFloat16 && weight.scalar_type() == at::kFloat),
              "linear_cross_entropy: weight must have the dtype of hidden, ", dtype,
              ", or be float32 for bfloat16, not ", weight.scalar_type());
  TORCH_CHECK(targets.scalar_type() == at::kLong, "linear_cross_entropy: targets must be int64");
  TORCH_CHECK(weight.device() == hidden.device() && targets.device() == hidden.device(),
              "linear_cross_entropy: hidden, weight and targets must be on one device, not ",
              hidden.device(), ", ", weight.device(), " and ", targets.device());
  if (!targets.is_cpu() || targets.numel() == 0) return;  // elsewhere it would wait for the device
  const Tensor wrong = targets.ge(weight.size(0)) | (targets.lt(0) & targets.ne(kIgnored));
  TORCH_CHECK_INDEX(!wrong.any().item<bool>(), "linear_cross_entropy: targets must be below ",
                    weight.size(0), " and not negative, or ", kIgnored, ", not ",
                    targets.masked_select(wrong)[0].item<int64_t>());
}

/// Losses [C] of a chunk; with `gradient` the logits become those of the losses' sum.
Tensor losses_and_gradient_(const Tensor& logits_CV, const Tensor& targets_C, bool gradient) {
  if (cpu::has_row_loops(logits_CV)) return cpu::cross_entropy_(logits_CV, targets_C, gradient);
  if (cuda::has_row_kernels(logits_CV, logits_CV.size(1))) {
    return cuda::row_kernels()->cross_entropy(logits_CV, targets_C, gradient);
  }
  const Tensor losses = token_losses(logits_CV, targets_C);
  if (!gradient) return losses;
  const Tensor counts = targets_C.ne(kIgnored).unsqueeze(1);
  const Tensor target = targets_C.clamp_min(0).unsqueeze(1);
  Tensor g = at::softmax(logits_CV, -1, losses.scalar_type());
  g.scatter_add_(1, target, at::full({1, 1}, -1.0, g.options()).expand(target.sizes()));
  logits_CV.copy_(g.mul_(counts));
  return losses;
}

/// sum += gradient^T hidden. Where sums are fp32 and the product is bf16, by blocks that stay in
/// cache between the two.
void add_weight_gradient(const Tensor& gradient_CV, const Tensor& hidden_CD, Tensor& sum_VD) {
  if (sum_VD.scalar_type() == hidden_CD.scalar_type()) {
    sum_VD.addmm_(gradient_CV.t(), hidden_CD);
    return;
  }
  constexpr int64_t kBlock = 1 << 21;
  const int64_t V = sum_VD.size(0), rows = std::max<int64_t>(kBlock / hidden_CD.size(1), 64);
  for (int64_t begin = 0; begin < V; begin += rows) {
    const int64_t count = std::min(rows, V - begin);
    sum_VD.narrow(0, begin, count).add_(at::mm(gradient_CV.narrow(1, begin, count).t(), hidden_CD));
  }
}

struct Results {
  Tensor losses_N, dhidden_ND, dweight_VD;
};

/// While it lives, the thread has no sink: a chunk's gradient has yet to be summed and scaled.
class WithoutGradientSink {
 public:
  WithoutGradientSink() : before_(set_gradient_sink(nullptr)) {}
  ~WithoutGradientSink() { set_gradient_sink(before_); }
  WithoutGradientSink(const WithoutGradientSink&) = delete;
  WithoutGradientSink& operator=(const WithoutGradientSink&) = delete;

 private:
  GradientSink* before_;
};

/// The products of a chunk, by ATen or by our loops.
class Head {
 public:
  Head(const Tensor& master_VD, const Tensor& hidden_ND, int64_t rows)
      : is_tiled_(hidden_ND.is_cpu() && hidden_ND.numel() > 0 && master_VD.numel() > 0 &&
                  cpu::beats_library(hidden_ND.scalar_type())),
        weight_VD_(is_tiled_ ? master_VD.contiguous() : master_VD.to(hidden_ND.scalar_type())) {
    if (is_tiled_) {
      routing_11_ = at::ones({1, 1}, hidden_ND.options().dtype(at::kFloat));
    } else {
      logits_ = at::empty({rows, master_VD.size(0)}, hidden_ND.options());
    }
  }

  /// What the products take: where bf16 is multiplied in fp32, logits need not be rounded.
  Tensor operand(const Tensor& hidden_CD) const {
    return is_tiled_ ? hidden_CD.to(at::kFloat).contiguous() : hidden_CD;
  }

  Tensor logits(const Tensor& hidden_CD) const {
    if (is_tiled_) {
      return cpu::merged_linear_forward(hidden_CD, {0, hidden_CD.size(0)}, routing_11_,
                                        weight_VD_.unsqueeze(0));
    }
    Tensor logits_CV = logits_.narrow(0, 0, hidden_CD.size(0));
    at::mm_out(logits_CV, hidden_CD, weight_VD_.t());
    return logits_CV;
  }

  /// The gradients of what is defined: dhidden is written, dweight added to.
  void backward(const Tensor& gradient_CV, const Tensor& hidden_CD, Tensor dhidden_CD,
                Tensor& dweight_VD) const {
    if (is_tiled_) {
      const auto [dhidden, drouting, dweight] = cpu::merged_linear_backward(
          gradient_CV, hidden_CD, {0, hidden_CD.size(0)}, routing_11_, weight_VD_.unsqueeze(0),
          {dhidden_CD.defined(), false, dweight_VD.defined()});
      if (dhidden.defined()) dhidden_CD.copy_(dhidden);
      if (dweight.defined()) dweight_VD.add_(dweight.squeeze(0));
      return;
    }
    if (dhidden_CD.defined()) at::mm_out(dhidden_CD, gradient_CV, weight_VD_);
    if (dweight_VD.defined()) add_weight_gradient(gradient_CV, hidden_CD, dweight_VD);
  }

 private:
  bool is_tiled_;
  Tensor weight_VD_, routing_11_;
  Tensor logits_;  ///< one chunk's memory for all
};

Results by_chunks(const Tensor& hidden, const Tensor& master_VD, const Tensor& targets,
                  bool needs_hidden, bool needs_weight) {
  const int64_t N = hidden.size(0), rows = cross_entropy_chunk(master_VD.size(0));
  const auto compute = at::toOpMathType(hidden.scalar_type());
  Results all{at::empty({N}, hidden.options().dtype(compute)), {}, {}};
  if (needs_hidden) all.dhidden_ND = at::empty(hidden.sizes(), hidden.options());
  if (needs_weight) all.dweight_VD = at::zeros(master_VD.sizes(), hidden.options().dtype(compute));
  const Head head(master_VD, hidden, std::min(rows, N));
  const WithoutGradientSink no_sink;
  for (int64_t begin = 0; begin < N; begin += rows) {
    const int64_t count = std::min(rows, N - begin);
    const Tensor hidden_CD = head.operand(hidden.narrow(0, begin, count));
    const Tensor chunk_CV = head.logits(hidden_CD);
    all.losses_N.narrow(0, begin, count)
        .copy_(losses_and_gradient_(chunk_CV, targets.narrow(0, begin, count),
                                    needs_hidden || needs_weight));
    if (!needs_hidden && !needs_weight) continue;
    head.backward(chunk_CV, hidden_CD,
                  needs_hidden ? all.dhidden_ND.narrow(0, begin, count) : Tensor(), all.dweight_VD);
  }
  return all;
}

struct LinearCrossEntropy : torch::autograd::Function<LinearCrossEntropy> {
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context,
                                                const Tensor& hidden, const Tensor& weight,
                                                const Tensor& targets, bool needs_hidden,
                                                bool needs_weight) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    Results all = by_chunks(hidden, weight, targets, needs_hidden, needs_weight);
    if (needs_weight) all.dweight_VD = all.dweight_VD.to(weight.scalar_type());
    context->save_for_backward({all.dhidden_ND, all.dweight_VD});
    context->saved_data["is_spent"] = false;
    context->mark_non_differentiable({all.losses_N});
    return {all.losses_N.sum(), all.losses_N};
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    TORCH_CHECK(!at::GradMode::is_enabled(), "linear_cross_entropy is differentiable once");
    TORCH_CHECK(!context->saved_data["is_spent"].toBool(),
                "linear_cross_entropy: a second backward through one graph; the first one scaled "
                "the gradients where they are");
    context->saved_data["is_spent"] = true;
    auto saved = context->get_saved_variables();
    for (Tensor& gradient : saved) {
      if (gradient.defined()) gradient.mul_(grads[0]);
    }
    return {saved[0], saved[1], Tensor(), Tensor(), Tensor()};
  }
};

}  // namespace

int64_t cross_entropy_chunk(int64_t vocabulary) {
  return std::clamp<int64_t>((int64_t{1} << 24) / std::max<int64_t>(vocabulary, 1), 256, 1024);
}

CrossEntropy linear_cross_entropy(const Tensor& hidden, const Tensor& weight, const Tensor& targets,
                                  bool reference) {
  check_arguments(hidden, weight, targets);
  if (reference) {
    const Tensor losses =
        token_losses(at::linear(hidden, weight.to(hidden.scalar_type())), targets);
    return {losses.sum(), losses.detach()};
  }
  const bool with_graph = at::GradMode::is_enabled();
  const auto results =
      LinearCrossEntropy::apply(hidden, weight, targets, with_graph && hidden.requires_grad(),
                                with_graph && weight.requires_grad());
  return {results[0], results[1]};
}

}  // namespace lorikeet::ops
