#pragma once
#include "src/ops/cuda/geometry.h"
#include "src/ops/cuda/launchers.h"

/// The merged feed-forward as a sequence of launches on raw device memory. Who calls it allocates,
/// and has checked that is_supported(). Everything is deterministic: no atomics, and every sum has
/// its order.
namespace lorikeet::ops::cuda {

/// Pointers on the device, contiguous, 16-byte aligned.
struct FfnInputs {
  const bf16* x;         ///< [N, D]
  const float* routing;  ///< [G, E]
  const void *gate, *up, *down;
};

/// Where the tables of tiles lie on the device, as tile_tables() orders them.
struct TileTables {
  const TokenTile *tall, *flat, *segments;
};
/// The three tables after each other, for one copy to the device.
std::vector<TokenTile> tile_tables(const std::vector<int64_t>& offsets);
TileTables split_tile_tables(const TokenTile* device, const std::vector<int64_t>& offsets);

struct ForwardBuffers {
  bf16* y;                  ///< [N, D]
  bf16 *saved_a, *saved_b;  ///< [N, F]; null where backward wants nothing
  bf16* h;                  ///< [N, F]
  bf16* slab;               ///< plan.slab_elements
};
void forward(Launcher& launcher, const Gpu& gpu, const FfnShape& shape, const ForwardPlan& plan,
             const TileTables& tables, const FfnInputs& in, const ForwardBuffers& out);

struct BackwardBuffers {
  const bf16* dy;                 ///< [N, D]
  const bf16 *saved_a, *saved_b;  ///< [N, F]
  bf16* h;                        ///< [N, F]
  bf16* da_db;                    ///< [N, 2F]
  bf16* slab;                     ///< plan.slab_elements
  float* partials;                ///< [plan.routing_blocks, G, E]
  // Results; null where not asked for.
  bf16* dx;                   ///< [N, D]
  float* drouting;            ///< [G, E]
  void *dgate, *dup, *ddown;  ///< as the experts, in their dtype
};
void backward(Launcher& launcher, const Gpu& gpu, const FfnShape& shape, const BackwardPlan& plan,
              const TileTables& tables, const FfnInputs& in, const BackwardBuffers& out);

}  // namespace lorikeet::ops::cuda
