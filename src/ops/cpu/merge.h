#pragma once
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <vector>

#include "blocks.h"
#include "expert_matrix.h"
#include "kernels.h"
#include "plan.h"
#include "product.h"
#include "workers.h"

namespace lorikeet::ops::cpu {

/// Panels that one task works on, and the routing weights of their segments, up to kMergedSegments.
struct MergeChunk {
  int64_t begin, end;              ///< in Plan::segments
  int64_t panel_begin, panel_end;  ///< in Plan::panels; of the first and last segment maybe a part
  std::vector<float> weights;      ///< [E][kMergedSegments], zero beyond the chunk's

  /// Calls use(panel) for those of a segment.
  template <class Use>
  void for_panels(const Plan& plan, const Segment& segment, const Use& use) const {
    const int64_t last = std::min(segment.panel_end, panel_end);
    for (int64_t p = std::max(segment.panel_begin, panel_begin); p < last; ++p) {
      use(plan.panels[p]);
    }
  }
};
/// @param tasks into which a pass cuts its least cut matrix: where there are more threads, there
/// are more chunks, each of which merges for itself. No bit of a result depends on how many.
std::vector<MergeChunk> merge_chunks(const Plan& plan, const at::Tensor& routing_GE, int64_t tasks);
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
/// The same as rows `row` .. of a right operand of `depth` rows, in panes (multiply_panes) and, in
/// bf16, pair rows. bf16 tiles have an even number of rows.
template <class T>
void merge_right(const VectorKernels& kernels, const ExpertMatrix& experts, const Tile& tile,
                 const MergeChunk& chunk, TileStack<T> out, int64_t row, int64_t depth);

/// Runs task(begin, size, chunk, Scratch) for blocks of `width` rows and every chunk: both chunks
/// of a block follow each other, since they read the same experts.
template <class Task>
void run_blocks(const Workers& workers, int64_t width, int64_t block,
                const std::vector<MergeChunk>& chunks, const Task& task) {
  const auto count = static_cast<int64_t>(chunks.size());
  workers.run(
      ceil_divide(width, block) * count,
      [&](int64_t i, Scratch scratch) {
        const int64_t begin = i / count * block;
        task(begin, std::min(block, width - begin), chunks[i % count], scratch);
      },
      release_products);
}

}  // namespace lorikeet::ops::cpu
