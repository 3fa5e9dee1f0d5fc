#pragma once

namespace lorikeet::ops::cuda {

/// Tiles of the products: M rows by N columns of the result, one block each; every step takes
/// kDepth of the products' depth; while one of kStages steps is multiplied the others are on their
/// way.
inline constexpr int kDepth = 32;

template <int kM, int kN, int kWarpsDown, int kWarpsAcross, int kNumStages, int kBlocks>
struct TileShape {
  static constexpr int M = kM, N = kN;
  static constexpr int kWarpsM = kWarpsDown, kWarpsN = kWarpsAcross;
  static constexpr int kStages = kNumStages;
  static constexpr int kBlocksPerSm = kBlocks;  ///< what registers are limited for
  static constexpr int kThreads = 32 * kWarpsM * kWarpsN;
  static constexpr int kSharedBytes = kStages * (M + N) * kDepth * 2;
};

/// Asks least of L2 and shared memory: long segments.
using TallTile = TileShape<256, 128, 4, 2, 4, 1>;
/// Wastes less of short segments.
using FlatTile = TileShape<64, 128, 2, 2, 4, 3>;

/// Threads of a block of routing_gradients and sum_partials, and of combine; and how many blocks a
/// multiprocessor is to hold, for which their registers are limited.
inline constexpr int kStreamThreads = 256, kStreamBlocksPerSm = 1;
inline constexpr int kCombineThreads = 128;
constexpr int combine_blocks_per_sm(bool in_is_float) { return in_is_float ? 3 : 4; }
/// Shared memory of `combine`: coefficient fragments, large and small parts.
constexpr int coefficient_bytes(int num_outs, int num_ins) {
  return (num_outs + 15) / 16 * ((num_ins + 15) / 16) * 1024;
}
/// Segments whose routing gradients a warp keeps in registers.
inline constexpr int kRoutingSegments = 64;

}  // namespace lorikeet::ops::cuda
