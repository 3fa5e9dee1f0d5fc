#include "lorikeet/ops/workspace.h"

#include <algorithm>

#include "geometry.h"

namespace lorikeet::ops {

int64_t slab_workspace_bytes(const std::vector<int64_t>& offsets, int64_t D, int64_t F, int64_t E,
                             int64_t bytes, int64_t expert_bytes) {
  const cuda::Gpu& gpu = cuda::known_gpus().front();
  const cuda::FfnShape shape{D, F, E, offsets, /*experts_are_float=*/expert_bytes == 4};
  const cuda::BackwardPlan backward = cuda::plan_backward(gpu, shape);
  const int64_t hidden = shape.N() * F * bytes, partials = 4 * shape.G() * E;
  return std::max(hidden + bytes * cuda::plan_forward(gpu, shape).slab_elements,
                  3 * hidden + bytes * backward.slab_elements + backward.routing_blocks * partials);
}

}  // namespace lorikeet::ops
