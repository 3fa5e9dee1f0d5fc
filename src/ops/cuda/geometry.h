#pragma once
#include <cstdint>
#include <vector>

#include "launchers.h"

/// How the merged feed-forward is cut into launches. No CUDA and no LibTorch here: the roofline and
/// the emulation compute from the same numbers that a GPU is launched with.
///
/// N tokens, D model, F feed-forward width, E experts, G segments, T tokens a segment.
namespace lorikeet::ops::cuda {

/// A GPU as far as cutting depends on it. Rates a second: the maker's for dense bf16 and memory;
/// for L2 about what is said to be had, for B200 a guess.
struct Gpu {
  const char* name;
  int architecture;  ///< 80, 90, 100
  int num_sms;
  int64_t l2_bytes;
  double tensor_flops, hbm_rate, l2_rate;
  int64_t block_shared_bytes = 163 << 10;  ///< shared memory that a block may ask for
  int64_t sm_shared_bytes = 164 << 10;     ///< of a multiprocessor
  KernelSet kernels = KernelSet::mma;
  double slab_share_of_l2 = 0.6;  ///< what a slab may fill: tokens and results pass beside it
};

/// The one table: A100 SXM 80 GB, H100 SXM, B200.
const std::vector<Gpu>& known_gpus();
/// What of a GPU differs within an architecture, and between those that share a row.
struct GpuSizes {
  int num_sms;
  int64_t l2_bytes, block_shared_bytes, sm_shared_bytes;
};
/// The row of the newest architecture not above `architecture`, with the sizes of the GPU at hand;
/// below 80 the first one, without kernels.
Gpu gpu_of(int architecture, const GpuSizes& sizes);

/// The shapes of tile that plans may choose from: those of its kernels that fit in a block.
std::vector<Tile> tiles_of(const Gpu& gpu);
/// Of a slab, what counts as staying in L2: all of one up to this size, nothing of a larger one.
int64_t slab_bytes_in_l2(const Gpu& gpu);

struct FfnShape {
  int64_t D, F, E;
  std::vector<int64_t> offsets;  ///< G+1 row numbers from 0 to N
  bool experts_are_float;        ///< fp32 instead of bf16
  /// Bytes of a slab's element, and of what merging copies of each expert for the slab's rectangle.
  /// As the kernels have them; batched products take more (batched.h).
  int64_t slab_element_bytes = 2, expert_copy_bytes = 0;
  int64_t G() const { return static_cast<int64_t>(offsets.size()) - 1; }
  int64_t N() const { return offsets.back(); }
  /// Of a slab with `numbers` of each of `segments` merged matrices, and what it takes beside it.
  int64_t slab_bytes(int64_t segments, int64_t numbers) const {
    return numbers * (segments * slab_element_bytes + E * expert_copy_bytes);
  }
};

/// The shape as batched products cut it: a slab's element in the dtype of x, in fp32 beside it what
/// is rounded into it, and an fp32 copy of the experts' rectangle.
/// @param bytes,expert_bytes  of a number of x and of an expert
FfnShape batched_shape(const std::vector<int64_t>& offsets, int64_t D, int64_t F, int64_t E,
                       int64_t bytes, int64_t expert_bytes);

/// Whether the kernels take such a layer: a GPU that they run on, D and F multiples of 8, 1 to 64
/// experts, and few enough segments that combine's coefficients fit in a block's shared memory.
/// Others go through batched products (batched.h).
bool is_supported(const Gpu& gpu, int64_t D, int64_t F, int64_t E, int64_t G);

/// A product over slabs of merged weights: how many segments and how many of the result's columns a
/// slab holds. A slab that doesn't fit in L2 is chosen where it costs less (docs/gpu_kernels.md).
struct SlabPlan {
  Tile tile;
  int64_t segments, columns;
  int64_t elements(int64_t depth) const { return segments * columns * depth; }
};

/// @param columns,depth of the whole product: [tokens, depth] by [depth, columns]
/// @param step the slab's columns are a multiple of it
SlabPlan plan_slabs(const Gpu& gpu, const FfnShape& shape, int64_t columns, int64_t depth,
                    int64_t step);

/// A rectangle of a segment gradient; the slab holds it for all segments.
struct GradientPlan {
  Tile tile;
  int64_t rows, columns;
};
GradientPlan plan_gradient(const Gpu& gpu, const FfnShape& shape, int64_t rows, int64_t columns);

struct ForwardPlan {
  SlabPlan gate_up, down;  ///< gate_up counts columns of gate and up together
  int64_t slab_elements;
};
ForwardPlan plan_forward(const Gpu& gpu, const FfnShape& shape);

struct BackwardPlan {
  SlabPlan hidden, input;
  GradientPlan gate, down;  ///< up is as gate
  int64_t slab_elements;
  int routing_blocks;  ///< partial sums of the routing's gradients
};
BackwardPlan plan_backward(const Gpu& gpu, const FfnShape& shape);

/// Rows that the tiles of a product cover, segment by segment; segments without tokens have none.
std::vector<TokenTile> token_tiles(const std::vector<int64_t>& offsets, Tile tile);
int64_t count_tiles(const std::vector<int64_t>& offsets, Tile tile);
/// One tile a segment, empty ones too.
std::vector<TokenTile> whole_segments(const std::vector<int64_t>& offsets);

/// Blocks of a persistent launch: no more than a GPU holds at once.
int product_blocks(const Gpu& gpu, Tile tile, int64_t num_tiles);
/// The same of a kernel that streams `items` of a warp each.
/// @param blocks_per_sm  that its registers are limited for
int stream_blocks(const Gpu& gpu, int64_t items, int threads, int blocks_per_sm,
                  int64_t shared_bytes);
/// Blocks of a product that a multiprocessor holds.
int blocks_per_sm(const Gpu& gpu, Tile tile);

int tile_rows(Tile tile);
int tile_columns(Tile tile);

}  // namespace lorikeet::ops::cuda
