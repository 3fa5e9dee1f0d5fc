// Merging tiles of experts. A tile of every expert is read once for up to kMaxOutputs segments;
// sums are fp32 and are rounded once.
#include "merge.h"

#include <algorithm>

namespace lorikeet::ops::cpu {

namespace {

void combine(const VectorKernels& kernels, const ExpertMatrix& experts, const Tile& tile,
             const MergeChunk& chunk, Strides to, float* out) {
  const VectorKernels::Combine shape{.outputs = chunk.end - chunk.begin,
                                     .inputs = experts.experts,
                                     .rows = tile.rows,
                                     .columns = tile.columns,
                                     .in = {experts.matrix, experts.columns},
                                     .out = to,
                                     .accumulate = false};
  const int64_t first = tile.row * experts.columns + tile.column;
  const float* const coefficients = chunk.coefficients.data();
  if (experts.is_bf16) {
    const auto* const in = static_cast<const uint16_t*>(experts.data) + first;
    kernels.combine_bf16(shape, coefficients, in, out);
  } else {
    kernels.combine_f32(shape, coefficients, static_cast<const float*>(experts.data) + first, out);
  }
}

}  // namespace

std::vector<MergeChunk> merge_chunks(const Plan& plan, const at::Tensor& routing_GE) {
  const auto total = static_cast<int64_t>(plan.segments.size());
  const int64_t E = routing_GE.size(1);
  const float* const routing = routing_GE.const_data_ptr<float>();
  std::vector<MergeChunk> chunks;
  for (int64_t begin = 0; begin < total; begin += kMaxOutputs) {
    const int64_t end = std::min(total, begin + kMaxOutputs);
    std::vector<float> coefficients(E * kMaxOutputs);
    for (int64_t s = begin; s < end; ++s) {
      const float* const row = routing + plan.segments[s].index * E;
      for (int64_t e = 0; e < E; ++e) coefficients[e * kMaxOutputs + s - begin] = row[e];
    }
    chunks.push_back({begin, end, std::move(coefficients)});
  }
  return chunks;
}

void merge_left(const VectorKernels& kernels, const ExpertMatrix& experts, const Tile& tile,
                const MergeChunk& chunk, TileStack<float> out, float*) {
  combine(kernels, experts, tile, chunk, {out.segment, out.row}, out.data);
}

void merge_right(const VectorKernels& kernels, const ExpertMatrix& experts, const Tile& tile,
                 const MergeChunk& chunk, TileStack<float> out, float* scratch) {
  merge_left(kernels, experts, tile, chunk, out, scratch);
}

void merge_left(const VectorKernels& kernels, const ExpertMatrix& experts, const Tile& tile,
                const MergeChunk& chunk, TileStack<uint16_t> out, float* scratch) {
  for (int64_t r = 0; r < tile.rows; ++r) {
    combine(kernels, experts, {tile.row + r, 1, tile.column, tile.columns}, chunk,
            {tile.columns, tile.columns}, scratch);
    for (int64_t s = 0; s < chunk.end - chunk.begin; ++s) {
      kernels.to_bf16(tile.columns, scratch + s * tile.columns,
                      out.data + s * out.segment + r * out.row);
    }
  }
}

void merge_right(const VectorKernels& kernels, const ExpertMatrix& experts, const Tile& tile,
                 const MergeChunk& chunk, TileStack<uint16_t> out, float* scratch) {
  const int64_t n = tile.columns;
  for (int64_t r = 0; r < tile.rows; r += 2) {
    combine(kernels, experts, {tile.row + r, 2, tile.column, n}, chunk, {2 * n, n}, scratch);
    for (int64_t s = 0; s < chunk.end - chunk.begin; ++s) {
      const float* const rows = scratch + s * 2 * n;
      kernels.pair_rows(n, rows, rows + n, out.data + s * out.segment + r * out.row);
    }
  }
}

}  // namespace lorikeet::ops::cpu
