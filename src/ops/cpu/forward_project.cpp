#include "forward_project.h"

#include <algorithm>

#include "pack.h"
#include "product.h"

namespace lorikeet::ops::cpu {

namespace {

template <class T>
void write_y(const Projection<T>& job, const TokenBlock& panel, int64_t o0, int64_t rows,
             const float* sums, float* turned) {
  store_transposed(job.kernels, rows, panel.width, sums, turned, rows, nullptr);
  for (int64_t t = 0; t < panel.count; ++t) {
    const int64_t first = (panel.row + t) * job.O + o0;
    if (job.is_y_bf16) {
      store_row(job.kernels, rows, turned + t * rows, static_cast<uint16_t*>(job.y) + first);
    } else {
      store_row(job.kernels, rows, turned + t * rows, static_cast<float*>(job.y) + first);
    }
  }
}

/// Columns o0 .. + rows of y, for a chunk's tokens.
template <class T>
void project_rows(const Projection<T>& job, const Panels<T>& panels, int64_t i0, int64_t size,
                  int64_t o0, int64_t rows, const MergeChunk& chunk, Scratch scratch) {
  const int64_t stack = stack_stride<T>(rows * size);
  T* const tiles = scratch.take<T>(largest_stack(job.plan) * stack);
  float* const turned = scratch.take<float>(kProjectRows * Plan::kWidestPanel);
  const bool is_last = i0 + size == job.I;
  merge_left(job.kernels, job.experts, {o0, rows, i0, size}, chunk, {tiles, stack});
  for (int64_t s = chunk.begin; s < chunk.end; ++s) {
    const T* const merged = tiles + (s - chunk.begin) * stack;
    chunk.for_panels(job.plan, job.plan.segments[s], [&](const TokenBlock& panel) {
      const int64_t P = panel.width;
      float* const sums = job.sums + panel.column * job.O + o0 * P;
      multiply({rows, P, size, size, P, P, i0 > 0}, merged, panels.of(panel), sums);
      if (is_last) write_y(job, panel, o0, rows, sums, turned);
    });
  }
}

}  // namespace

template <class T>
int64_t project_scratch(const Plan& plan, int64_t size) {
  return Scratch::bytes<T>(largest_stack(plan) * stack_stride<T>(kProjectRows * size)) +
         Scratch::bytes<float>(kProjectRows * Plan::kWidestPanel);
}

template <class T>
void project(const Projection<T>& job, const Panels<T>& panels, int64_t i0, int64_t size,
             const Workers& workers) {
  run_blocks(workers, job.O, kProjectRows, job.chunks,
             [&](int64_t o0, int64_t rows, const MergeChunk& chunk, Scratch scratch) {
               project_rows(job, panels, i0, size, o0, rows, chunk, scratch);
             });
}

template <class T>
void pack_panels(const VectorKernels& kernels, const Plan& plan, const TokenRows<T>& x, T* out,
                 const Workers& workers) {
  const int64_t D = x.width();
  workers.run(
      static_cast<int64_t>(plan.panels.size()),
      [&](int64_t p, Scratch) {
        const TokenBlock& panel = plan.panels[p];
        x.read(panel.row, 0, [&](const auto* rows) {
          pack_columns(kernels, rows, D, D, panel, out + panel.column * D);
        });
      },
      [] {});
}

template int64_t project_scratch<float>(const Plan&, int64_t);
template int64_t project_scratch<uint16_t>(const Plan&, int64_t);
template void project(const Projection<float>&, const Panels<float>&, int64_t, int64_t,
                      const Workers&);
template void project(const Projection<uint16_t>&, const Panels<uint16_t>&, int64_t, int64_t,
                      const Workers&);
template void pack_panels(const VectorKernels&, const Plan&, const TokenRows<float>&, float*,
                          const Workers&);
template void pack_panels(const VectorKernels&, const Plan&, const TokenRows<uint16_t>&, uint16_t*,
                          const Workers&);

}  // namespace lorikeet::ops::cpu
