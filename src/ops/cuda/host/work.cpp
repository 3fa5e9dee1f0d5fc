#include "src/ops/cuda/host/work.h"

#include <algorithm>
#include <set>

#include "src/ops/cuda/tiles.h"

namespace lorikeet::ops::cuda {

namespace {

constexpr int64_t kMmaFlops = 2 * 16 * 8 * 16, kMatricesBytes = 4 * 8 * 16;
constexpr int64_t kTileBytes = sizeof(TokenTile);

int64_t ceil_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// One tile's main loop: `rows` and `columns` are those inside the matrices.
template <class Shape>
void add_tile(Work& work, int64_t rows, int64_t columns, int64_t depth) {
  constexpr int64_t kWarps = Shape::kThreads / 32;
  constexpr int64_t kWarpM = Shape::M / Shape::kWarpsM, kWarpN = Shape::N / Shape::kWarpsN;
  const int64_t steps = ceil_divide(depth, kDepth);
  work.global_read_bytes += Shape::kThreads * kTileBytes + (rows + columns) * depth * 2;
  work.shared_copied_bytes += steps * (Shape::M + Shape::N) * kDepth * 2;
  work.shared_matrix_bytes +=
      steps * kWarps * (kDepth / 16) * (kWarpM / 16 + kWarpN / 16) * kMatricesBytes;
  work.tensor_flops += steps * 2 * Shape::M * Shape::N * kDepth;
}

struct Epilogue {
  int64_t read_bytes, written_bytes;  ///< a row and column of the product
};

template <class Shape>
LaunchWork count_product(const char* name, const ProductArguments& arg, int blocks,
                         const Epilogue& epilogue) {
  LaunchWork launch{name, {}, blocks, 0};
  Work& work = launch.work;
  std::set<int> segments;
  int64_t tokens = 0;
  for (int i = 0; i < arg.num_tiles; ++i) {
    const int64_t rows = arg.tiles[i].num_rows;
    tokens += rows;
    segments.insert(arg.tiles[i].segment);
    for (int64_t column = 0; column < arg.columns; column += Shape::N) {
      ++launch.tiles;
      add_tile<Shape>(work, rows, std::min<int64_t>(Shape::N, arg.columns - column), arg.depth);
    }
  }
  const int64_t results = tokens * arg.columns;
  work.global_read_bytes += results * epilogue.read_bytes;
  work.global_written_bytes += results * epilogue.written_bytes;
  work.slab_bytes = static_cast<int64_t>(segments.size()) * arg.columns * arg.depth * 2;
  work.touched_read_bytes = arg.num_tiles * kTileBytes + tokens * arg.depth * 2 + work.slab_bytes +
                            results * epilogue.read_bytes;
  work.touched_written_bytes = results * epilogue.written_bytes;
  return launch;
}

LaunchWork count_product(const char* name, const ProductArguments& arg, Tile tile, int blocks,
                         const Epilogue& epilogue) {
  return tile == Tile::tall ? count_product<TallTile>(name, arg, blocks, epilogue)
                            : count_product<FlatTile>(name, arg, blocks, epilogue);
}

template <class Shape>
LaunchWork count_gradients(const SegmentGradientArguments& arg, int blocks) {
  LaunchWork launch{"segment_gradients", {}, blocks, 0};
  Work& work = launch.work;
  int64_t tokens = 0;
  for (int s = 0; s < arg.num_segments; ++s) {
    const int64_t depth = arg.segments[s].num_rows;
    tokens += depth;
    for (int64_t row = 0; row < arg.rows; row += Shape::M) {
      for (int64_t column = 0; column < arg.columns; column += Shape::N) {
        ++launch.tiles;
        add_tile<Shape>(work, std::min<int64_t>(Shape::M, arg.rows - row),
                        std::min<int64_t>(Shape::N, arg.columns - column), depth);
      }
    }
  }
  work.slab_bytes = static_cast<int64_t>(arg.num_segments) * arg.rows * arg.columns * 2;
  work.global_written_bytes = work.touched_written_bytes = work.slab_bytes;
  work.touched_read_bytes = arg.num_segments * kTileBytes + tokens * (arg.rows + arg.columns) * 2;
  return launch;
}

LaunchWork count_combine(const char* name, const CombineArguments& arg, bool in_is_float,
                         bool out_is_float, int blocks) {
  const int64_t size = static_cast<int64_t>(arg.num_rows) * arg.num_columns;
  const int64_t in_bytes = size * arg.num_ins * (in_is_float ? 4 : 2);
  const int64_t out_bytes = size * arg.num_outs * (out_is_float ? 4 : 2);
  const int64_t coefficients = static_cast<int64_t>(arg.num_outs) * arg.num_ins * 4;
  const int64_t out16 = ceil_divide(arg.num_outs, 16), in16 = ceil_divide(arg.num_ins, 16);
  LaunchWork launch{name, {}, blocks, 0};
  Work& work = launch.work;
  work.global_read_bytes = ceil_divide(arg.num_outs, 32) * in_bytes + blocks * coefficients;
  work.global_written_bytes = out_bytes;
  work.tensor_flops = arg.num_rows * ceil_divide(arg.num_columns, 64) * out16 * in16 * 8 *
                      (in_is_float ? 3 : 2) * kMmaFlops;
  work.touched_read_bytes = in_bytes + coefficients;
  work.touched_written_bytes = out_bytes;
  return launch;
}

}  // namespace

void WorkCounter::merge(const CombineArguments& arg, bool experts_are_float, int blocks) {
  launches.push_back(count_combine("merge", arg, experts_are_float, false, blocks));
  launches.back().work.slab_bytes = launches.back().work.global_written_bytes;
}

void WorkCounter::expert_gradients(const CombineArguments& arg, bool experts_are_float,
                                   int blocks) {
  launches.push_back(count_combine("expert_gradients", arg, false, experts_are_float, blocks));
  launches.back().work.slab_bytes =
      static_cast<int64_t>(arg.num_rows) * arg.num_columns * arg.num_ins * 2;
}

void WorkCounter::gate_up(const GateUpArguments& arg, Tile tile, int blocks) {
  // A column of the product is half a column of F.
  const int64_t written = arg.a == nullptr ? 1 : 3;
  launches.push_back(count_product("gate_up", arg.product, tile, blocks, {0, written}));
}

void WorkCounter::down(const StoreArguments& arg, Tile tile, int blocks) {
  launches.push_back(count_product("down", arg.product, tile, blocks, {0, 2}));
}

void WorkCounter::hidden_gradient(const HiddenGradientArguments& arg, Tile tile, int blocks) {
  launches.push_back(count_product("hidden_gradient", arg.product, tile, blocks, {4, 6}));
}

void WorkCounter::input_gradient(const StoreArguments& arg, Tile tile, int blocks) {
  launches.push_back(count_product("input_gradient", arg.product, tile, blocks, {0, 2}));
}

void WorkCounter::segment_gradients(const SegmentGradientArguments& arg, Tile tile, int blocks) {
  launches.push_back(tile == Tile::tall ? count_gradients<TallTile>(arg, blocks)
                                        : count_gradients<FlatTile>(arg, blocks));
}

void WorkCounter::routing_gradients(const RoutingGradientArguments& arg, bool experts_are_float,
                                    int blocks) {
  const int64_t size = static_cast<int64_t>(arg.rows) * arg.columns;
  const int64_t slab_bytes = size * arg.num_segments * 2;
  const int64_t expert_bytes = size * arg.num_experts * (experts_are_float ? 4 : 2);
  const int64_t partial_bytes =
      static_cast<int64_t>(blocks) * arg.num_segments * arg.num_experts * 4;
  const int64_t rounds = ceil_divide(arg.num_segments, kRoutingSegments);
  const int64_t experts8 = arg.num_experts <= 8 ? 1 : arg.num_experts <= 32 ? 4 : 8;
  LaunchWork launch{"routing_gradients", {}, blocks, 0};
  Work& work = launch.work;
  work.global_read_bytes =
      slab_bytes + rounds * expert_bytes + (arg.is_first != 0 ? 0 : partial_bytes);
  work.global_written_bytes = partial_bytes;
  work.tensor_flops = rounds * arg.rows * ceil_divide(arg.columns, 32) * experts8 *
                      (kRoutingSegments / 16) * 2 * kMmaFlops;
  work.touched_read_bytes = slab_bytes + expert_bytes + (arg.is_first != 0 ? 0 : partial_bytes);
  work.touched_written_bytes = partial_bytes;
  work.slab_bytes = slab_bytes;
  launches.push_back(launch);
}

void WorkCounter::sum_partials(const SumArguments& arg, int blocks) {
  const int64_t bytes = static_cast<int64_t>(arg.size) * 4;
  LaunchWork launch{"sum_partials", {}, blocks, 0};
  launch.work.global_read_bytes = arg.num_partials * bytes;
  launch.work.global_written_bytes = bytes;
  launch.work.touched_read_bytes = arg.num_partials * bytes;
  launch.work.touched_written_bytes = bytes;
  launches.push_back(launch);
}

}  // namespace lorikeet::ops::cuda
