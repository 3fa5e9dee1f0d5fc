// The gradient of x: an owner of columns merges their tiles and multiplies the hidden layer's
// gradients by them.
#include "backward_owner.h"
#include "level.h"
#include "product.h"

namespace lorikeet::ops::cpu {

template <class T>
int64_t input_scratch(const Plan& plan, int64_t depth) {
  return Scratch::bytes<T>(largest_stack(plan) * stack_stride<T>(depth * kModelBlock<T>)) +
         Scratch::bytes<float>(Plan::kWidestPanel * kModelBlock<T>);
}

template <class T>
void input_gradient(const OwnerJob<T>& job, int64_t f0, int64_t size, int64_t d0, int64_t columns,
                    const MergeChunk& chunk, Scratch scratch) {
  const auto inputs = static_cast<int64_t>(job.inputs.size());
  const int64_t depth = inputs * size, stack = stack_stride<T>(depth * columns),
                token_row = job.hidden.token_row, pane = level().pane;
  T* const tiles = scratch.take<T>(largest_stack(job.plan) * stack);
  float* const sums = scratch.take<float>(Plan::kWidestPanel * columns);
  // One above the other, as a token's parts follow each other: one product for all.
  for (int64_t i = 0; i < inputs; ++i) {
    merge_right(job.kernels, job.inputs[i].experts, {f0, size, d0, columns}, chunk,
                TileStack<T>{tiles, stack},
                /*row=*/i * size, depth);
  }
  for (int64_t s = chunk.begin; s < chunk.end; ++s) {
    const T* const merged = tiles + (s - chunk.begin) * stack;
    chunk.for_panels(job.plan, job.plan.segments[s], [&](const TokenBlock& panel) {
      const T* const left = job.hidden.token_rows(panel.column);
      float* const out = job.dx + panel.row * job.D + d0;
      const int64_t P = panel.width;
      if (panel.count == P) {
        multiply_panes({P, columns, depth, token_row, pane, job.D, f0 > 0}, left, merged, out);
        return;
      }
      multiply_panes({P, columns, depth, token_row, pane, columns, false}, left, merged, sums);
      for (int64_t t = 0; t < panel.count; ++t) {
        for (int64_t c = 0; c < columns; ++c) {
          out[t * job.D + c] = sums[t * columns + c] + (f0 > 0 ? out[t * job.D + c] : 0.0f);
        }
      }
    });
  }
}

template int64_t input_scratch<float>(const Plan&, int64_t);
template int64_t input_scratch<uint16_t>(const Plan&, int64_t);
template void input_gradient(const OwnerJob<float>&, int64_t, int64_t, int64_t, int64_t,
                             const MergeChunk&, Scratch);
template void input_gradient(const OwnerJob<uint16_t>&, int64_t, int64_t, int64_t, int64_t,
                             const MergeChunk&, Scratch);

}  // namespace lorikeet::ops::cpu
