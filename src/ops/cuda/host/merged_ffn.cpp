#include "src/ops/cuda/host/merged_ffn.h"

#include <algorithm>

#include "src/ops/cuda/tiles.h"

namespace lorikeet::ops::cuda {

namespace {

/// One set of expert matrices [E, rows, columns].
struct Experts {
  const void* data;
  int64_t rows, columns;
};

/// What every launch of a pass needs.
struct Context {
  Launcher& launcher;
  const Gpu& gpu;
  const FfnShape& shape;
  const TileTables& tables;

  const void* element(const void* experts, int64_t index) const {
    return static_cast<const char*>(experts) + index * (shape.experts_are_float ? 4 : 2);
  }
  void* element(void* experts, int64_t index) const {
    return static_cast<char*>(experts) + index * (shape.experts_are_float ? 4 : 2);
  }
  int combine_blocks(const CombineArguments& arg, bool in_is_float) const {
    return stream_blocks(gpu, int64_t{arg.num_rows} * ((arg.num_columns + 63) / 64),
                         kCombineThreads, combine_blocks_per_sm(in_is_float),
                         coefficient_bytes(arg.num_outs, arg.num_ins));
  }

  struct Rectangle {
    int64_t row, num_rows, column, num_columns;
  };

  /// Merges a rectangle of `experts` for some segments into a slab of such rows.
  /// @param row_group 16 to leave every second eight rows to the other matrix
  void merge(const float* routing, const Experts& experts, const Rectangle& r, int64_t segments,
             bf16* slab, int64_t slab_segment_stride, int row_group) const {
    const CombineArguments arg{.coefficients = routing,
                               .coefficient_stride_out = shape.E,
                               .coefficient_stride_in = 1,
                               .num_outs = static_cast<int>(segments),
                               .num_ins = static_cast<int>(shape.E),
                               .num_rows = static_cast<int>(r.num_rows),
                               .num_columns = static_cast<int>(r.num_columns),
                               .in = element(experts.data, r.row * experts.columns + r.column),
                               .in_matrix_stride = experts.rows * experts.columns,
                               .in_row_stride = experts.columns,
                               .out = slab,
                               .out_matrix_stride = slab_segment_stride,
                               .out_row_stride = r.num_columns,
                               .out_row_group = row_group};
    launcher.merge(arg, shape.experts_are_float, combine_blocks(arg, shape.experts_are_float));
  }

  /// What a product reads: rows of `left`, and a slab with its merged matrices.
  struct Operands {
    const bf16* left;
    int64_t left_stride;
    const bf16* slab;
    int64_t slab_segment_stride, slab_row_stride;
    int64_t columns, depth;
  };

  /// Over the tiles of segments first .. first + count.
  ProductArguments product(Tile tile, int64_t first, int64_t count, const Operands& of) const {
    const TokenTile* table = tile == Tile::tall ? tables.tall : tables.flat;
    int64_t skipped = 0, num_tiles = 0;
    for (int64_t g = 0; g < first + count; ++g) {
      const auto i = static_cast<size_t>(g);
      const int64_t tokens = shape.offsets[i + 1] - shape.offsets[i];
      (g < first ? skipped : num_tiles) += (tokens + tile_rows(tile) - 1) / tile_rows(tile);
    }
    return {.tiles = table + skipped,
            .num_tiles = static_cast<int>(num_tiles),
            .first_segment = static_cast<int>(first),
            .left = of.left,
            .left_stride = of.left_stride,
            .slab = of.slab,
            .slab_segment_stride = of.slab_segment_stride,
            .slab_row_stride = of.slab_row_stride,
            .columns = static_cast<int>(of.columns),
            .depth = static_cast<int>(of.depth)};
  }
  int blocks(const ProductArguments& arg, Tile tile) const {
    const int64_t across = (arg.columns + tile_columns(tile) - 1) / tile_columns(tile);
    return product_blocks(gpu, tile, arg.num_tiles * across);
  }

  /// Calls slab(first segment, segments, first column, columns) for every slab of a plan.
  template <class Function>
  void for_each_slab(const SlabPlan& plan, int64_t columns, const Function& slab) const {
    for (int64_t first = 0; first < shape.G(); first += plan.segments) {
      const int64_t segments = std::min(plan.segments, shape.G() - first);
      const auto i = static_cast<size_t>(first);
      if (shape.offsets[i] == shape.offsets[i + static_cast<size_t>(segments)]) continue;
      for (int64_t column = 0; column < columns; column += plan.columns) {
        slab(first, segments, column, std::min(plan.columns, columns - column));
      }
    }
  }
};

void run_gate_up(const Context& c, const SlabPlan& plan, const FfnInputs& in,
                 const ForwardBuffers& out) {
  const int64_t D = c.shape.D, F = c.shape.F;
  c.for_each_slab(plan, 2 * F, [&](int64_t first, int64_t segments, int64_t column, int64_t count) {
    const int64_t f = column / 2, rows = count / 2, stride = count * D;
    const float* routing = in.routing + first * c.shape.E;
    c.merge(routing, {in.gate, F, D}, {f, rows, 0, D}, segments, out.slab, stride, 16);
    c.merge(routing, {in.up, F, D}, {f, rows, 0, D}, segments, out.slab + 8 * D, stride, 16);
    GateUpArguments arg{
        .product = c.product(plan.tile, first, segments, {in.x, D, out.slab, stride, D, count, D}),
        .h = out.h + f,
        .a = out.saved_a == nullptr ? nullptr : out.saved_a + f,
        .b = out.saved_b == nullptr ? nullptr : out.saved_b + f,
        .stride = F};
    c.launcher.gate_up(arg, plan.tile, c.blocks(arg.product, plan.tile));
  });
}

void run_down(const Context& c, const SlabPlan& plan, const FfnInputs& in,
              const ForwardBuffers& out) {
  const int64_t D = c.shape.D, F = c.shape.F;
  c.for_each_slab(plan, D, [&](int64_t first, int64_t segments, int64_t d, int64_t count) {
    c.merge(in.routing + first * c.shape.E, {in.down, D, F}, {d, count, 0, F}, segments, out.slab,
            count * F, 8);
    StoreArguments arg{.product = c.product(plan.tile, first, segments,
                                            {out.h, F, out.slab, count * F, F, count, F}),
                       .out = out.y + d,
                       .stride = D};
    c.launcher.down(arg, plan.tile, c.blocks(arg.product, plan.tile));
  });
}

void run_hidden_gradient(const Context& c, const SlabPlan& plan, const FfnInputs& in,
                         const BackwardBuffers& out) {
  const int64_t D = c.shape.D, F = c.shape.F;
  c.for_each_slab(plan, F, [&](int64_t first, int64_t segments, int64_t f, int64_t count) {
    c.merge(in.routing + first * c.shape.E, {in.down, D, F}, {0, D, f, count}, segments, out.slab,
            D * count, 8);
    HiddenGradientArguments arg{
        .product = c.product(plan.tile, first, segments,
                             {out.dy, D, out.slab, D * count, count, count, D}),
        .a = out.saved_a + f,
        .b = out.saved_b + f,
        .h = out.h + f,
        .stride = F,
        .da = out.da_db + f,
        .db = out.da_db + F + f,
        .gradient_stride = 2 * F};
    c.launcher.hidden_gradient(arg, plan.tile, c.blocks(arg.product, plan.tile));
  });
}

/// [da, db] times gate above up: one product of depth 2F.
void run_input_gradient(const Context& c, const SlabPlan& plan, const FfnInputs& in,
                        const BackwardBuffers& out) {
  const int64_t D = c.shape.D, F = c.shape.F;
  c.for_each_slab(plan, D, [&](int64_t first, int64_t segments, int64_t d, int64_t count) {
    const float* routing = in.routing + first * c.shape.E;
    const int64_t stride = 2 * F * count;
    c.merge(routing, {in.gate, F, D}, {0, F, d, count}, segments, out.slab, stride, 8);
    c.merge(routing, {in.up, F, D}, {0, F, d, count}, segments, out.slab + F * count, stride, 8);
    StoreArguments arg{
        .product = c.product(plan.tile, first, segments,
                             {out.da_db, 2 * F, out.slab, stride, count, count, 2 * F}),
        .out = out.dx + d,
        .stride = D};
    c.launcher.input_gradient(arg, plan.tile, c.blocks(arg.product, plan.tile));
  });
}

/// A matrix whose segment gradients are left^T right.
struct Factors {
  const bf16* left;
  int64_t left_stride;
  const bf16* right;
  int64_t right_stride;
};

/// Segment gradients rectangle by rectangle, each reduced to expert and routing gradients while it
/// is in L2.
void run_expert_gradients(const Context& c, const GradientPlan& plan, int routing_blocks,
                          const FfnInputs& in, const Factors& factors, const Experts& experts,
                          void* gradient, const BackwardBuffers& out, bool* is_first) {
  const FfnShape& shape = c.shape;
  const auto G = static_cast<int>(shape.G());
  for (int64_t row = 0; row < experts.rows; row += plan.rows) {
    for (int64_t column = 0; column < experts.columns; column += plan.columns) {
      const int64_t rows = std::min(plan.rows, experts.rows - row);
      const int64_t columns = std::min(plan.columns, experts.columns - column);
      const int64_t tiles = G * ((rows + tile_rows(plan.tile) - 1) / tile_rows(plan.tile)) *
                            ((columns + tile_columns(plan.tile) - 1) / tile_columns(plan.tile));
      c.launcher.segment_gradients({.segments = c.tables.segments,
                                    .num_segments = G,
                                    .left = factors.left + row,
                                    .right = factors.right + column,
                                    .left_stride = factors.left_stride,
                                    .right_stride = factors.right_stride,
                                    .rows = static_cast<int>(rows),
                                    .columns = static_cast<int>(columns),
                                    .slab = out.slab},
                                   plan.tile, product_blocks(c.gpu, plan.tile, tiles));
      const int64_t at = row * experts.columns + column, size = experts.rows * experts.columns;
      if (gradient != nullptr) {
        const CombineArguments arg{.coefficients = in.routing,
                                   .coefficient_stride_out = 1,
                                   .coefficient_stride_in = shape.E,
                                   .num_outs = static_cast<int>(shape.E),
                                   .num_ins = G,
                                   .num_rows = static_cast<int>(rows),
                                   .num_columns = static_cast<int>(columns),
                                   .in = out.slab,
                                   .in_matrix_stride = rows * columns,
                                   .in_row_stride = columns,
                                   .out = c.element(gradient, at),
                                   .out_matrix_stride = size,
                                   .out_row_stride = experts.columns,
                                   .out_row_group = 8};
        c.launcher.expert_gradients(arg, shape.experts_are_float,
                                    c.combine_blocks(arg, /*in_is_float=*/false));
      }
      if (out.drouting != nullptr) {
        c.launcher.routing_gradients({.slab = out.slab,
                                      .num_segments = G,
                                      .num_experts = static_cast<int>(shape.E),
                                      .rows = static_cast<int>(rows),
                                      .columns = static_cast<int>(columns),
                                      .experts = c.element(experts.data, at),
                                      .expert_stride = size,
                                      .expert_row_stride = experts.columns,
                                      .partials = out.partials,
                                      .is_first = *is_first ? 1 : 0},
                                     shape.experts_are_float, routing_blocks);
        *is_first = false;
      }
    }
  }
}

}  // namespace

std::vector<TokenTile> tile_tables(const std::vector<int64_t>& offsets) {
  std::vector<TokenTile> all = token_tiles(offsets, Tile::tall);
  for (const auto& table : {token_tiles(offsets, Tile::flat), whole_segments(offsets)}) {
    all.insert(all.end(), table.begin(), table.end());
  }
  return all;
}

TileTables split_tile_tables(const TokenTile* device, const std::vector<int64_t>& offsets) {
  const TokenTile* const flat = device + count_tiles(offsets, Tile::tall);
  return {device, flat, flat + count_tiles(offsets, Tile::flat)};
}

void forward(Launcher& launcher, const Gpu& gpu, const FfnShape& shape, const ForwardPlan& plan,
             const TileTables& tables, const FfnInputs& in, const ForwardBuffers& out) {
  const Context c{launcher, gpu, shape, tables};
  run_gate_up(c, plan.gate_up, in, out);
  run_down(c, plan.down, in, out);
}

void backward(Launcher& launcher, const Gpu& gpu, const FfnShape& shape, const BackwardPlan& plan,
              const TileTables& tables, const FfnInputs& in, const BackwardBuffers& out) {
  const Context c{launcher, gpu, shape, tables};
  const int64_t D = shape.D, F = shape.F;
  run_hidden_gradient(c, plan.hidden, in, out);
  if (out.dx != nullptr) run_input_gradient(c, plan.input, in, out);
  bool is_first = true;
  const auto experts = [&](const GradientPlan& p, const Factors& factors, const Experts& of,
                           void* gradient) {
    if (gradient == nullptr && out.drouting == nullptr) return;
    run_expert_gradients(c, p, plan.routing_blocks, in, factors, of, gradient, out, &is_first);
  };
  experts(plan.gate, {out.da_db, 2 * F, in.x, D}, {in.gate, F, D}, out.dgate);
  experts(plan.gate, {out.da_db + F, 2 * F, in.x, D}, {in.up, F, D}, out.dup);
  experts(plan.down, {out.dy, D, out.h, F}, {in.down, D, F}, out.ddown);
  if (out.drouting == nullptr) return;
  const int64_t size = shape.G() * shape.E;
  launcher.sum_partials(
      {.partials = out.partials,
       .num_partials = plan.routing_blocks,
       .size = static_cast<int>(size),
       .out = out.drouting},
      stream_blocks(gpu, (size + 31) / 32, kStreamThreads, kStreamBlocksPerSm, 0));
}

}  // namespace lorikeet::ops::cuda
