#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

#include "kernels.h"
#include "plan.h"

namespace lorikeet::ops::cpu {

/// One matrix of all experts, [E, O, I], in fp32 or bf16.
struct ExpertMatrix {
  explicit ExpertMatrix(const at::Tensor& weight)
      : data(weight.const_data_ptr()),
        is_bf16(weight.scalar_type() == at::kBFloat16),
        experts(weight.size(0)),
        columns(weight.size(2)),
        matrix(weight.size(1) * weight.size(2)) {}
  const void* data;
  bool is_bf16;
  int64_t experts, columns, matrix;  ///< matrix: O * I
};

/// Rows row .. row + rows and columns column .. column + columns of a matrix.
struct Tile {
  int64_t row, rows, column, columns;
};

/// Routing weights of up to kMaxOutputs segments that are merged together.
struct MergeChunk {
  int64_t begin, end;               ///< in Plan::segments
  std::vector<float> coefficients;  ///< [E][kMaxOutputs]
};
std::vector<MergeChunk> merge_chunks(const Plan& plan, const at::Tensor& routing_GE);

/// A chunk's merged tiles in memory: segment s begins at s * segment, rows are `row` apart.
template <class T>
struct TileStack {
  T* data;
  int64_t segment, row;
};

/// How far apart the tiles of a stack lie: a little more than their size, so that tiles of 2^k
/// bytes don't share their places in the cache.
template <class T>
constexpr int64_t stack_stride(int64_t numbers) {
  return (numbers + 15) / 16 * 16 + 320 / static_cast<int64_t>(sizeof(T));
}

/// fp32 numbers that merging a tile of so many columns needs beside its result.
inline int64_t merge_scratch(int64_t columns) { return 2 * kMaxOutputs * columns; }

/// sum_e r[s,e] W_e's tile for every segment of the chunk, as the left operand of a product.
void merge_left(const VectorKernels& kernels, const ExpertMatrix& experts, const Tile& tile,
                const MergeChunk& chunk, TileStack<float> out, float* scratch);
void merge_left(const VectorKernels& kernels, const ExpertMatrix& experts, const Tile& tile,
                const MergeChunk& chunk, TileStack<uint16_t> out, float* scratch);
/// The same as the right operand: in bf16, pair rows. bf16 tiles have an even number of rows.
void merge_right(const VectorKernels& kernels, const ExpertMatrix& experts, const Tile& tile,
                 const MergeChunk& chunk, TileStack<float> out, float* scratch);
void merge_right(const VectorKernels& kernels, const ExpertMatrix& experts, const Tile& tile,
                 const MergeChunk& chunk, TileStack<uint16_t> out, float* scratch);

}  // namespace lorikeet::ops::cpu
