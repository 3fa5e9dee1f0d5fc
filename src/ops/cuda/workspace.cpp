// N tokens, D model, F feed-forward width, E experts, G segments.
#include "lorikeet/ops/workspace.h"

#include <algorithm>

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

/// As batched.cpp does: h, [da, db], a slab's columns of dh, and a slab, in bf16 in fp32 too.
int64_t of_batched_products(const cuda::Gpu& gpu, const cuda::FfnShape& shape, int64_t bytes) {
  const int64_t h = shape.N() * shape.F * bytes, of_slab = bytes < kFloat ? bytes + kFloat : bytes;
  const cuda::BackwardPlan backward = plan_backward(gpu, shape);
  const int64_t dh = shape.N() * std::min(shape.F, backward.hidden.columns) * bytes;
  return std::max(h + of_slab * plan_forward(gpu, shape).slab_elements,
                  3 * h + dh + of_slab * backward.slab_elements);
}

}  // namespace

int64_t slab_workspace_bytes(const std::vector<int64_t>& offsets, int64_t D, int64_t F, int64_t E,
                             int64_t bytes, int64_t expert_bytes) {
  const cuda::Gpu gpu = cuda::gpu_at(at::kCUDA);
  const cuda::FfnShape shape{D, F, E, offsets, /*experts_are_float=*/expert_bytes == kFloat};
  const bool has_kernels = bytes < kFloat && cuda::is_supported(gpu, D, F, E, shape.G());
  return has_kernels ? of_kernels(gpu, shape, bytes) : of_batched_products(gpu, shape, bytes);
}

}  // namespace lorikeet::ops
