// N tokens, D model, F feed-forward width, E experts, G segments.
#include "lorikeet/ops/workspace.h"

#include <algorithm>

#include "batched.h"
#include "geometry.h"
#include "hook.h"

namespace lorikeet::ops {

namespace {

constexpr int64_t kFloat = 4;

/// As host/operator.cpp takes them: h, [da, db], a slab, partial sums of the routing's gradients.
int64_t of_kernels(const cuda::Gpu& gpu, const cuda::FfnShape& shape, int64_t bytes) {
  const int64_t h = shape.N() * shape.F * bytes;
  const cuda::BackwardPlan backward = plan_backward(gpu, shape);
  return std::max(h + bytes * plan_forward(gpu, shape).slab_elements,
                  3 * h + bytes * backward.slab_elements +
                      backward.routing_blocks * shape.G() * shape.E * kFloat);
}

int64_t of_batched_products(const cuda::Gpu& gpu, const cuda::FfnShape& shape, int64_t bytes) {
  return std::max(batched_workspace_bytes(plan_forward(gpu, shape), shape, bytes),
                  batched_workspace_bytes(plan_backward(gpu, shape), shape, bytes));
}

}  // namespace

int64_t slab_workspace_bytes(const std::vector<int64_t>& offsets, int64_t D, int64_t F, int64_t E,
                             int64_t bytes, int64_t expert_bytes) {
  const cuda::Gpu gpu = cuda::gpu_at(at::kCUDA);
  if (bytes < kFloat &&
      cuda::is_supported(gpu, D, F, E, static_cast<int64_t>(offsets.size()) - 1)) {
    return of_kernels(gpu, {D, F, E, offsets, /*experts_are_float=*/expert_bytes == kFloat}, bytes);
  }
  return of_batched_products(gpu, cuda::batched_shape(offsets, D, F, E, bytes, expert_bytes),
                             bytes);
}

}  // namespace lorikeet::ops
