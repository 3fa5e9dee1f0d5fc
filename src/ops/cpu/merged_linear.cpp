// The loop nests of merged_linear: the second halves of merged_ffn's, with x itself as the hidden
// layer of forward and dy itself as the hidden layer's gradient of backward.
//
// N tokens, I inputs, O outputs, E experts.
#include "merged_linear.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "backward_owner.h"
#include "forward_project.h"
#include "level.h"
#include "pack.h"
#include "workspace.h"

namespace lorikeet::ops::cpu {

namespace {

using at::Tensor;

/// The hidden layer's gradient has one part here and is x's other side: it may be longer.
constexpr int64_t kOutputs = 2 * kBackwardOuter;

template <class T>
Tensor forward_in(const Tensor& x, at::IntArrayRef offsets, const Tensor& routing,
                  const Tensor& weight) {
  const int64_t I = x.size(1), O = weight.size(1);
  const VectorKernels& kernels = *level().kernels;
  const Plan plan(offsets);
  const auto chunks = merge_chunks(plan, routing, ceil_divide(O, kProjectRows));
  const OuterBlocks outer(I, kForwardOuter, /*step=*/32);
  const Buffer panels(plan.columns * I * static_cast<int64_t>(sizeof(T)));
  const Buffer sums(plan.columns * O * static_cast<int64_t>(sizeof(float)));
  const Workers workers(project_scratch<T>(plan, outer.size));
  record_workspace(/*backward=*/false, panels.bytes() + sums.bytes() + workers.bytes());
  Tensor y = at::empty({x.size(0), O}, x.options());
  const Projection<T> job{.kernels = kernels,
                          .plan = plan,
                          .chunks = chunks,
                          .experts = ExpertMatrix(weight),
                          .O = O,
                          .I = I,
                          .sums = sums.as<float>(),
                          .y = y.mutable_data_ptr(),
                          .is_y_bf16 = y.scalar_type() == at::kBFloat16};
  pack_panels(kernels, plan, TokenRows<T>(x), panels.as<T>(), workers);
  for (int64_t i0 = 0; i0 < I; i0 += outer.size) {
    const int64_t size = std::min(outer.size, I - i0);
    project(job, {panels.as<T>(), /*rows=*/I, /*first=*/i0}, i0, size, workers);
  }
  return y;
}

constexpr int64_t kTurned = 2 * kFeatureBlock * Plan::kWidestPanel;  // numbers of scratch memory

/// Outputs o0 .. + size of a strip's rows of dy, in both orientations.
template <class T>
void spread_gradient(const OwnerJob<T>& job, const TokenRows<T>& dy, int64_t o0, int64_t size,
                     const TokenBlock& strip, Scratch scratch) {
  float* const rows = scratch.take<float>(kTurned / 2);
  float* const turned = scratch.take<float>(kTurned / 2);
  for (int64_t t = 0; t < strip.width && job.dx != nullptr; ++t) {
    T* const to = job.hidden.token_rows(strip.column + t);
    if (t < strip.count) {
      dy.copy(job.kernels, strip.row + t, o0, size, to);
    } else {
      std::fill_n(to, size, T{0});
    }
  }
  if (!job.needs_inputs()) return;
  for (int64_t f = 0; f < size; f += kFeatureBlock) {
    const int64_t features = std::min(kFeatureBlock, size - f);
    T* const to = job.hidden.feature_rows(strip, f);
    for (int64_t t0 = 0; t0 < strip.width; t0 += Plan::kWidestPanel) {
      const int64_t width = std::min(Plan::kWidestPanel, strip.width - t0);
      const int64_t count = std::clamp(strip.count - t0, int64_t{0}, width);
      dy.read(strip.row + t0, o0 + f, [&](const auto* from) {
        for (int64_t t = 0; t < count; ++t) {
          widen_row(job.kernels, features, from + t * dy.width(), rows + t * features);
        }
      });
      std::fill_n(rows + count * features, (width - count) * features, 0.0f);
      job.kernels.transpose(width, features, reinterpret_cast<const uint32_t*>(rows), features,
                            reinterpret_cast<uint32_t*>(turned), width);
      for (int64_t r = 0; r < features; ++r) {
        store_row(job.kernels, width, turned + r * width, to + r * strip.width + t0);
      }
    }
  }
}

template <class T>
std::array<Tensor, 3> backward_in(const Tensor& dy, const Tensor& x, at::IntArrayRef offsets,
                                  const Tensor& routing, const Tensor& weight,
                                  const std::array<bool, 3>& needed) {
  const int64_t I = x.size(1), O = weight.size(1), E = weight.size(0);
  const Plan plan(offsets);
  const auto chunks = merge_chunks(plan, routing, ceil_divide(I, kModelBlock<T>));
  const OuterBlocks outer(O, kOutputs, kFeatureBlock);
  const HiddenGradients<T> hidden(plan, outer.size, /*feature_parts=*/1, /*token_parts=*/1);
  const Workers workers(std::max(owner_scratch<T>(plan, outer.size, /*inputs=*/1, weight),
                                 2 * Scratch::bytes<float>(kTurned / 2)));
  DroutingParts drouting(needed[1], outer.count, ceil_divide(I, kModelBlock<T>), plan, E);
  const Tensor dx = fresh_gradient(x, needed[0], at::kFloat);
  const WeightGradient dweight(weight, needed[2]);
  OwnerJob<T> job{.kernels = *level().kernels,
                  .plan = plan,
                  .chunks = chunks,
                  .hidden = hidden,
                  .D = I,
                  .E = E,
                  .x = TokenRows<T>(x),
                  .inputs = {{ExpertMatrix(weight), dweight.place()}},
                  .dy = {},
                  .output = std::nullopt,
                  .routing = routing.const_data_ptr<float>(),
                  .needs_routing = needed[1],
                  .dx = dx.defined() ? dx.mutable_data_ptr<float>() : nullptr,
                  .drouting = nullptr};
  for (int64_t i = 0; i < outer.count; ++i) {
    const int64_t o0 = i * outer.size, size = std::min(outer.size, O - o0);
    workers.run(
        static_cast<int64_t>(plan.strips.size()),
        [&](int64_t strip, Scratch scratch) {
          spread_gradient(job, TokenRows<T>(dy), o0, size, plan.strips[strip], scratch);
        },
        [] {});
    job.drouting = drouting.block(i);
    own_columns(job, o0, size, workers);
  }
  record_workspace(/*backward=*/true,
                   hidden.bytes() + workers.bytes() + drouting.bytes() + bytes_to_round(dx, x));
  return {dx.defined() ? dx.to(x.scalar_type()) : dx,
          needed[1] ? drouting.total(plan, routing) : Tensor(), dweight.finish()};
}

}  // namespace

Tensor merged_linear_forward(const Tensor& x, at::IntArrayRef offsets, const Tensor& routing,
                             const Tensor& weight) {
  return is_computed_in_bf16(x, weight.size(1)) ? forward_in<uint16_t>(x, offsets, routing, weight)
                                                : forward_in<float>(x, offsets, routing, weight);
}

std::array<Tensor, 3> merged_linear_backward(const Tensor& dy, const Tensor& x,
                                             at::IntArrayRef offsets, const Tensor& routing,
                                             const Tensor& weight,
                                             const std::array<bool, 3>& needed) {
  return is_computed_in_bf16(x, weight.size(1))
             ? backward_in<uint16_t>(dy, x, offsets, routing, weight, needed)
             : backward_in<float>(dy, x, offsets, routing, weight, needed);
}

}  // namespace lorikeet::ops::cpu
