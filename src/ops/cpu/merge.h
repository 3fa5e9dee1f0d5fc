#pragma once
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <vector>

#include "blocks.h"
#include "expert_matrix.h"
#include "kernels.h"
#include "plan.h"

namespace lorikeet::ops::cpu {

/// Routing weights of up to kMergedSegments segments.
struct MergeChunk {
  int64_t begin, end;          ///< in Plan::segments
  std::vector<float> weights;  ///< [E][kMergedSegments], zero beyond the chunk's
};
std::vector<MergeChunk> merge_chunks(const Plan& plan, const at::Tensor& routing_GE);
/// Tiles that stand in memory together.
inline int64_t largest_stack(const Plan& plan) {
  return std::min(kMergedSegments, static_cast<int64_t>(plan.segments.size()));
}

/// A chunk's merged tiles in memory: segment s begins at s * segment; rows follow each other
/// closely.
template <class T>
struct TileStack {
  T* data;
  int64_t segment;
};

/// How far apart the tiles of a stack lie: a little more than their size, so that tiles of 2^k
/// bytes don't share their places in the cache.
template <class T>
inline int64_t stack_stride(int64_t numbers) {
  return round_up(numbers, 16) + 320 / static_cast<int64_t>(sizeof(T));
}

/// sum_e r[s,e] W_e's tile for every segment of the chunk, as the left operand of a product.
void merge_left(const VectorKernels& kernels, const ExpertMatrix& experts, const Tile& tile,
                const MergeChunk& chunk, TileStack<float> out);
void merge_left(const VectorKernels& kernels, const ExpertMatrix& experts, const Tile& tile,
                const MergeChunk& chunk, TileStack<uint16_t> out);
/// The same as the right operand: in bf16, pair rows. bf16 tiles have an even number of rows.
void merge_right(const VectorKernels& kernels, const ExpertMatrix& experts, const Tile& tile,
                 const MergeChunk& chunk, TileStack<float> out);
void merge_right(const VectorKernels& kernels, const ExpertMatrix& experts, const Tile& tile,
                 const MergeChunk& chunk, TileStack<uint16_t> out);

}  // namespace lorikeet::ops::cpu
