// The loop nest of merged_ffn's backward.
//
//   for an outer block of F:
//     owners of rows of F:  merge down tiles; dh = dy down; da, db and h (backward_hidden.cpp)
//     owners of rows of D:  merge gate and up tiles; dx += da gate + db up;
//                           gradients of merged tiles, dW and dr from them (backward_owner.cpp)
//
// Each number of a result is summed by one thread in one order.
#include "backward.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "level.h"
#include "merged_ffn.h"
#include "product.h"
#include "workspace.h"

namespace lorikeet::ops::cpu {

namespace {

using at::Tensor;

template <class T>
void run(Backward<T> job, const OuterBlocks& outer, const Workers& workers,
         DroutingParts& drouting) {
  for (int64_t i = 0; i < outer.count; ++i) {
    const int64_t f0 = i * outer.size, size = std::min(outer.size, job.F - f0);
    run_blocks(workers, size, kFeatureBlock, job.owner.chunks,
               [&](int64_t begin, int64_t rows, const MergeChunk& chunk, Scratch scratch) {
                 hidden_gradients(job, f0, begin, rows, chunk, scratch);
               });
    job.owner.drouting = drouting.block(i);
    own_columns(job.owner, f0, size, workers);
  }
}

template <class T>
std::array<Tensor, 5> backward_in(const Tensor& dy, const Tensor& x, at::IntArrayRef offsets,
                                  const Tensor& routing, const Tensor& gate, const Tensor& up,
                                  const Tensor& down, const Tensor& a, const Tensor& b,
                                  const Needed& needed) {
  const int64_t D = x.size(1), F = gate.size(1), E = gate.size(0);
  const Plan plan(offsets);
  const OuterBlocks outer(F, kBackwardOuter, kFeatureBlock);
  const auto chunks = merge_chunks(plan, routing, ceil_divide(outer.size, kFeatureBlock));
  const HiddenGradients<T> hidden(plan, outer.size, /*feature_parts=*/3, /*token_parts=*/2);
  const Workers workers(
      std::max(hidden_scratch<T>(plan, D), owner_scratch<T>(plan, outer.size, /*inputs=*/2, gate)));
  DroutingParts drouting(needed[1], outer.count, ceil_divide(D, kModelBlock<T>), plan, E);
  const Tensor dx = fresh_gradient(x, needed[0], at::kFloat);
  const WeightGradient dgate(gate, needed[2]), dup(up, needed[3]), ddown(down, needed[4]);
  const auto weight = [](const Tensor& experts, const WeightGradient& gradient) {
    return ExpertWeight{ExpertMatrix(experts), gradient.place()};
  };
  run(Backward<T>{.owner = {.kernels = *level().kernels,
                            .plan = plan,
                            .chunks = chunks,
                            .hidden = hidden,
                            .D = D,
                            .E = E,
                            .x = TokenRows<T>(x),
                            .inputs = {weight(gate, dgate), weight(up, dup)},
                            .dy = TokenRows<T>(dy),
                            .output = weight(down, ddown),
                            .routing = routing.const_data_ptr<float>(),
                            .needs_routing = needed[1],
                            .dx = dx.defined() ? dx.mutable_data_ptr<float>() : nullptr,
                            .drouting = nullptr},
                  .down = ExpertMatrix(down),
                  .F = F,
                  .saved = SavedProducts(a, b, F)},
      outer, workers, drouting);
  record_workspace(/*backward=*/true,
                   hidden.bytes() + workers.bytes() + drouting.bytes() + bytes_to_round(dx, x));
  return {dx.defined() ? dx.to(x.scalar_type()) : dx,
          needed[1] ? drouting.total(plan, routing) : Tensor(), dgate.finish(), dup.finish(),
          ddown.finish()};
}

}  // namespace

std::array<Tensor, 5> merged_ffn_backward(const Tensor& dy, const Tensor& x,
                                          at::IntArrayRef offsets, const Tensor& routing,
                                          const Tensor& gate, const Tensor& up, const Tensor& down,
                                          const Tensor& a, const Tensor& b, const Needed& needed) {
  const auto compute = [&]<class T>(T) {
    return backward_in<T>(dy, x, offsets, routing, gate, up, down, a, b, needed);
  };
  return is_computed_in_bf16(x, gate.size(1)) ? compute(uint16_t{}) : compute(float{});
}

}  // namespace lorikeet::ops::cpu
