#pragma once
#include <cstdint>
#include <vector>

#include "launchers.h"

/// How the merged feed-forward is cut into launches. No CUDA and no LibTorch here: the roofline and
/// the emulation compute from the same numbers that a GPU is launched with.
///
/// N tokens, D model, F feed-forward width, E experts, G segments, T tokens a segment.
namespace lorikeet::ops::cuda {

/// The shapes of tile that plans may choose from.
const std::vector<Tile>& tiles_of(KernelSet kernels);

/// A GPU as far as cutting depends on it. Rates a second: the maker's for dense bf16 and memory;
/// for L2 about what is said to be had, for B200 a guess.
struct Gpu {
  const char* name;
  int architecture;  ///< 80, 90, 100
  int num_sms;
  int64_t l2_bytes;
  double tensor_flops, hbm_rate, l2_rate;
  KernelSet kernels = KernelSet::mma;
};

/// The one table: A100 SXM 80 GB, H100 SXM, B200.
const std::vector<Gpu>& known_gpus();
/// The row of the newest architecture not above `architecture` (at least 80), with the number of
/// SMs and the L2 of the GPU at hand.
Gpu gpu_of(int architecture, int num_sms, int64_t l2_bytes);

struct FfnShape {
  int64_t D, F, E;
  std::vector<int64_t> offsets;  ///< G+1 row numbers from 0 to N
  bool experts_are_float;        ///< fp32 instead of bf16
  int64_t G() const { return static_cast<int64_t>(offsets.size()) - 1; }
  int64_t N() const { return offsets.back(); }
};

/// Whether the kernels take such a layer: D and F multiples of 8, 1 to 64 experts, at least a
/// token, and few enough segments that combine's coefficients fit in shared memory. Others go
/// through the reference.
bool is_supported(int64_t D, int64_t F, int64_t E, int64_t G);

/// A product over slabs of merged weights: how many segments and how many of the result's columns a
/// slab holds.
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
/// One tile a segment, empty ones too.
std::vector<TokenTile> whole_segments(const std::vector<int64_t>& offsets);

/// Blocks of a persistent launch over so many tiles, and of the kernels that stream `items` of a
/// warp each.
int product_blocks(const Gpu& gpu, Tile tile, int64_t num_tiles);
int stream_blocks(const Gpu& gpu, int64_t items, int threads);

int tile_rows(Tile tile);
int tile_columns(Tile tile);

}  // namespace lorikeet::ops::cuda
