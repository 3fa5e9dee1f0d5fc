#pragma once
#include <cstdint>

/// What kernels, launchers and hosts share. Seen by nvcc and by g++; no CUDA header is needed.
///
/// N tokens, D model, F feed-forward width, E experts, G segments.
namespace lorikeet::ops::cuda {

/// The bits of a bfloat16.
struct bf16 {
  uint16_t bits;
};

/// 16 bytes that are loaded and stored at once.
struct alignas(16) Words4 {
  uint32_t w[4];
};

/// Some rows of one segment: what a tile of a product covers, or a whole segment.
struct alignas(16) TokenTile {
  int32_t segment, row, num_rows, unused;
};

struct LaunchShape {
  int blocks, threads, shared_bytes;
};

/// out[i] = sum_k coefficient[i, k] in[k], matrices with fp32 coefficients, for a rectangle of
/// their rows and columns. It merges (i segments, k experts, out the slab) and gives expert
/// gradients (i experts, k segments, in the slab). Columns and strides are multiples of 8.
struct CombineArguments {
  const float* coefficients;
  int64_t coefficient_stride_out, coefficient_stride_in;
  int num_outs, num_ins;
  int num_rows, num_columns;
  const void* in;  ///< the rectangle's first element in matrix 0
  int64_t in_matrix_stride, in_row_stride;
  void* out;
  int64_t out_matrix_stride, out_row_stride;
  /// Row r is written to row r / 8 * out_row_group + r % 8: 16 leaves room to interleave two.
  int out_row_group;
};

/// What products over a slab share: rows of `left` [N, depth] times their segment's slab.
struct ProductArguments {
  const TokenTile* tiles;
  int num_tiles;
  int first_segment;  ///< the slab's
  const bf16* left;
  int64_t left_stride;
  const bf16* slab;
  int64_t slab_segment_stride, slab_row_stride;
  int columns, depth;
};

/// slab [C, 2 Fs, D]: rows of gate and up interleaved by 8. h = silu(a) b with a = x gate^T, b = x
/// up^T.
struct GateUpArguments {
  ProductArguments product;
  bf16* h;      ///< [N, F] at the slab's first column of F
  bf16 *a, *b;  ///< the same for what backward wants; null where it wants nothing
  int64_t stride;
};

/// out = left slab^T (down: slab [C, Ds, F]) or left slab (dx: slab [C, 2F, Ds]).
struct StoreArguments {
  ProductArguments product;
  bf16* out;  ///< at the slab's first column
  int64_t stride;
};

/// slab [C, D, Fs]: dh = dy down; da = dh b silu'(a), db = dh silu(a), h = silu(a) b.
struct HiddenGradientArguments {
  ProductArguments product;
  const bf16 *a, *b;  ///< [N, F] at the slab's first column, as h
  bf16* h;
  int64_t stride;
  bf16 *da, *db;  ///< into [N, 2F]
  int64_t gradient_stride;
};

/// For every segment left^T right over its tokens, for a rectangle of the result: [C, rows,
/// columns]. Left and right point at the rectangle's first row and column.
struct SegmentGradientArguments {
  const TokenTile* segments;
  int num_segments;
  const bf16 *left, *right;
  int64_t left_stride, right_stride;
  int rows, columns;
  bf16* slab;
};

/// partials[block, s, e] (+)= <slab[s], experts[e]> over a rectangle: the routing's gradients.
struct RoutingGradientArguments {
  const bf16* slab;  ///< [G, rows, columns]
  int num_segments, num_experts;
  int rows, columns;
  const void* experts;  ///< the rectangle's first element in expert 0
  int64_t expert_stride, expert_row_stride;
  float* partials;
  int is_first;  ///< writes instead of adding
};

/// out[i] = sum of partials[p, i], in order.
struct SumArguments {
  const float* partials;
  int num_partials, size;
  float* out;
};

}  // namespace lorikeet::ops::cuda
