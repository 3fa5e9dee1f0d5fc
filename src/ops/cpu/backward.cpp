// The loop nest of merged_ffn's backward.
//
//   for an outer block of F:
//     owners of rows of F:  merge down tiles; dh = dy down; da, db and h (backward_hidden.cpp)
//     owners of rows of D:  merge gate and up tiles; dx += da gate + db up;
//                           gradients of merged tiles, dW and dr from them (backward_owner.cpp)
//
// Each number of a result is summed by one thread in one order; dr has a place of its own for every
// pair of an outer block and a block of D, and those are summed at the end.
#include "backward.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "level.h"
#include "pages.h"
#include "product.h"

namespace lorikeet::ops::cpu {

namespace {

using at::Tensor;

constexpr int64_t kOuter = 384;

template <class T>
void run(Backward<T> job, const OuterBlocks& outer, const Workers& workers,
         std::vector<float>& drouting) {
  const int64_t model_blocks = ceil_divide(job.D, kModelBlock);
  const int64_t part = static_cast<int64_t>(drouting.size()) / outer.count;
  for (int64_t f0 = 0; f0 < job.F; f0 += outer.size) {
    const int64_t size = std::min(outer.size, job.F - f0);
    workers.run(
        ceil_divide(size, kFeatureBlock),
        [&](int64_t i, Scratch scratch) {
          const int64_t begin = i * kFeatureBlock;
          hidden_gradients(job, f0, begin, std::min(kFeatureBlock, size - begin), scratch);
        },
        release_products);
    job.drouting = drouting.data() + f0 / outer.size * part;
    workers.run(
        model_blocks,
        [&](int64_t i, Scratch scratch) {
          const int64_t d0 = i * kModelBlock, columns = std::min(kModelBlock, job.D - d0);
          if (job.needed[0]) input_gradient(job, f0, size, d0, columns, scratch);
          weight_gradients(job, f0, size, d0, columns, scratch);
        },
        release_products);
  }
}

/// Sums the parts in their order.
Tensor total_drouting(const std::vector<float>& parts, const Plan& plan, const Tensor& routing) {
  Tensor total = at::zeros(routing.sizes(), routing.options());
  const int64_t E = routing.size(1);
  const auto segments = static_cast<int64_t>(plan.segments.size());
  for (int64_t s = 0; s < segments; ++s) {
    float* const row = total.mutable_data_ptr<float>() + plan.segments[s].index * E;
    for (int64_t e = 0; e < E; ++e) {
      double sum = 0;
      for (size_t i = s * E + e; i < parts.size(); i += segments * E) sum += parts[i];
      row[e] = static_cast<float>(sum);
    }
  }
  return total;
}

template <class T>
std::array<Tensor, 5> backward_in(const Tensor& dy, const Tensor& x, at::IntArrayRef offsets,
                                  const Tensor& routing, const Tensor& gate, const Tensor& up,
                                  const Tensor& down, const Tensor& a, const Tensor& b,
                                  const Needed& needed) {
  const int64_t D = x.size(1), F = gate.size(1), E = gate.size(0);
  const Plan plan(offsets);
  const auto chunks = merge_chunks(plan, routing);
  const OuterBlocks outer(F, kOuter, kFeatureBlock);
  const HiddenGradients<T> hidden(plan, outer.size);
  const Workers workers(std::max(hidden_scratch<T>(D), owner_scratch<T>(plan, outer.size, E)));
  std::vector<float> drouting(needed[1] ? outer.count * ceil_divide(D, kModelBlock) *
                                              static_cast<int64_t>(plan.segments.size()) * E
                                        : 0);
  const auto fresh = [](const Tensor& like, bool is_needed, at::ScalarType dtype) {
    if (!is_needed) return Tensor();
    Tensor result = at::empty(like.sizes(), like.options().dtype(dtype));
    prefer_large_pages(result.mutable_data_ptr(), static_cast<int64_t>(result.nbytes()));
    return result;
  };
  // Sums over several chunks of segments would round at each if they were bf16.
  const bool one_chunk = static_cast<int64_t>(plan.segments.size()) <= kGradientChunk;
  const auto dtype = one_chunk ? gate.scalar_type() : at::kFloat;
  const Tensor dx = fresh(x, needed[0], at::kFloat), dgate = fresh(gate, needed[2], dtype),
               dup = fresh(up, needed[3], dtype), ddown = fresh(down, needed[4], dtype);
  const auto numbers = [](const Tensor& t) { return static_cast<const T*>(t.const_data_ptr()); };
  const auto place = [](const Tensor& t) {
    return ExpertGradient{t.defined() ? t.mutable_data_ptr() : nullptr,
                          t.defined() && t.scalar_type() == at::kBFloat16};
  };
  run(Backward<T>{.kernels = *level().kernels,
                  .plan = plan,
                  .chunks = chunks,
                  .gate = ExpertMatrix(gate),
                  .up = ExpertMatrix(up),
                  .down = ExpertMatrix(down),
                  .D = D,
                  .F = F,
                  .E = E,
                  .dy = numbers(dy),
                  .x = numbers(x),
                  .a = numbers(a),
                  .b = numbers(b),
                  .routing = routing.const_data_ptr<float>(),
                  .needed = needed,
                  .dx = dx.defined() ? dx.mutable_data_ptr<float>() : nullptr,
                  .dgate = place(dgate),
                  .dup = place(dup),
                  .ddown = place(ddown),
                  .drouting = nullptr,
                  .hidden = hidden},
      outer, workers, drouting);
  record_workspace(/*backward=*/true,
                   hidden.features.bytes() + hidden.tokens.bytes() + workers.bytes() +
                       (dx.defined() && sizeof(T) == 2 ? static_cast<int64_t>(dx.nbytes()) : 0));
  const auto as = [](const Tensor& grad, const Tensor& like) {
    return grad.defined() ? grad.to(like.scalar_type()) : grad;
  };
  return {as(dx, x), needed[1] ? total_drouting(drouting, plan, routing) : Tensor(),
          as(dgate, gate), as(dup, up), as(ddown, down)};
}

}  // namespace

std::array<Tensor, 5> merged_ffn_backward(const Tensor& dy, const Tensor& x,
                                          at::IntArrayRef offsets, const Tensor& routing,
                                          const Tensor& gate, const Tensor& up, const Tensor& down,
                                          const Tensor& a, const Tensor& b, const Needed& needed) {
  if (x.scalar_type() != at::kBFloat16) {
    return backward_in<float>(dy, x, offsets, routing, gate, up, down, a, b, needed);
  }
  if (!computes_bf16_in_fp32(x.size(1), gate.size(1))) {
    return backward_in<uint16_t>(dy, x, offsets, routing, gate, up, down, a, b, needed);
  }
  const auto wide = [](const Tensor& t) { return t.to(at::kFloat); };
  auto gradients = backward_in<float>(wide(dy), wide(x), offsets, routing, gate, up, down, wide(a),
                                      wide(b), needed);
  if (gradients[0].defined()) gradients[0] = gradients[0].to(at::kBFloat16);
  return gradients;
}

}  // namespace lorikeet::ops::cpu
