// Merging tiles of experts: the routing's weights as the vector loops want them, and which loop.
#include "merge.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <type_traits>
#include <utility>

#include "level.h"

namespace lorikeet::ops::cpu {

namespace {

/// How merged tiles lie: rows, and panes as in VectorKernels::Merge.
struct Layout {
  Strides strides;
  int64_t pane, next_pane;
};

/// @param from_f32, from_bf16 the loop for either dtype of experts
template <class FromF32, class FromBf16, class Out>
void merge(FromF32 from_f32, FromBf16 from_bf16, const ExpertMatrix& experts, const Tile& tile,
           const MergeChunk& chunk, const Layout& layout, Out* out) {
  const VectorKernels::Merge shape{.inputs = experts.experts,
                                   .outputs = chunk.end - chunk.begin,
                                   .rows = tile.rows,
                                   .columns = tile.columns,
                                   .in = experts.strides(),
                                   .out = layout.strides,
                                   .pane = layout.pane,
                                   .next_pane = layout.next_pane};
  with_tile(experts, tile, [&]<class In>(const In* in) {
    if constexpr (std::is_same_v<In, float>) {
      from_f32(shape, chunk.weights.data(), in, out);
    } else {
      from_bf16(shape, chunk.weights.data(), in, out);
    }
  });
}

Layout plain(const Tile& tile, int64_t segment) {
  return {{segment, tile.columns}, tile.columns, /*next_pane=*/0};
}

}  // namespace

std::vector<MergeChunk> merge_chunks(const Plan& plan, const at::Tensor& routing_GE,
                                     int64_t tasks) {
  const int64_t E = routing_GE.size(1);
  const float* const routing = routing_GE.const_data_ptr<float>();
  // Few experts are soon read again: better than merged tiles that leave the second level of cache.
  const int64_t together = std::clamp<int64_t>(E, 8, kMergedSegments);
  const int64_t wanted = ceil_divide(at::get_num_threads(), tasks);
  const auto total = static_cast<int64_t>(plan.panels.size());
  const int64_t most = ceil_divide(total, wanted);  // panels
  std::vector<MergeChunk> chunks;
  int64_t s = 0;  // the segment of the next panel
  for (int64_t panel = 0; panel < total; panel = chunks.back().panel_end) {
    const int64_t begin = s;
    const int64_t end = std::min(static_cast<int64_t>(plan.segments.size()), begin + together);
    const int64_t panel_end = std::min(plan.segments[end - 1].panel_end, panel + most);
    std::vector<float> weights(E * kMergedSegments);
    for (int64_t reached = panel; reached < panel_end; ++s) {
      const float* const row = routing + plan.segments[s].index * E;
      for (int64_t e = 0; e < E; ++e) weights[e * kMergedSegments + s - begin] = row[e];
      reached = std::min(plan.segments[s].panel_end, panel_end);
    }
    chunks.push_back({begin, s, panel, panel_end, std::move(weights)});
    if (plan.segments[s - 1].panel_end > panel_end) --s;
  }
  return chunks;
}

void merge_left(const VectorKernels& kernels, const ExpertMatrix& experts, const Tile& tile,
                const MergeChunk& chunk, TileStack<float> out) {
  merge(kernels.merge_f32, kernels.merge_bf16, experts, tile, chunk, plain(tile, out.segment),
        out.data);
}

void merge_left(const VectorKernels& kernels, const ExpertMatrix& experts, const Tile& tile,
                const MergeChunk& chunk, TileStack<uint16_t> out) {
  merge(kernels.merge_f32_to_bf16, kernels.merge_bf16_to_bf16, experts, tile, chunk,
        plain(tile, out.segment), out.data);
}

template <class T>
void merge_right(const VectorKernels& kernels, const ExpertMatrix& experts, const Tile& tile,
                 const MergeChunk& chunk, TileStack<T> out, int64_t row, int64_t depth) {
  // All whole panes, and what is left as one more.
  const int64_t whole = tile.columns / level().pane * level().pane;
  for (const auto& [begin, end] : {std::pair{int64_t{0}, whole}, {whole, tile.columns}}) {
    if (begin == end) continue;
    const int64_t width = std::min(level().pane, end - begin);
    const Tile part{tile.row, tile.rows, tile.column + begin, end - begin};
    T* const to = out.data + begin * depth + row * width;
    if constexpr (std::is_same_v<T, float>) {
      merge(kernels.merge_f32, kernels.merge_bf16, experts, part, chunk,
            {{out.segment, width}, width, width * depth}, to);
    } else {
      merge(kernels.merge_f32_to_pairs, kernels.merge_bf16_to_pairs, experts, part, chunk,
            {{out.segment, 2 * width}, width, width * depth}, to);
    }
  }
}

template void merge_right(const VectorKernels&, const ExpertMatrix&, const Tile&, const MergeChunk&,
                          TileStack<float>, int64_t, int64_t);
template void merge_right(const VectorKernels&, const ExpertMatrix&, const Tile&, const MergeChunk&,
                          TileStack<uint16_t>, int64_t, int64_t);

}  // namespace lorikeet::ops::cpu
