#include "geometry.h"

#include <algorithm>
#include <cmath>

#include "tiles.h"

namespace lorikeet::ops::cuda {

namespace {

/// Assumed for a slab's launches; it decides where little else does.
constexpr double kSecondsOfSlab = 10e-6;
constexpr int64_t kMostSegmentsOfSlab = 256;
constexpr int64_t kMostSlabBytes = 192 << 20;
constexpr int64_t kMostCoefficientBytes = 128 << 10;
/// Of a multiprocessor's shared memory, a block's own.
constexpr int64_t kReservedSharedBytes = 1 << 10;

int64_t ceil_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t round_up(int64_t a, int64_t step) { return ceil_divide(a, step) * step; }

template <class Function>
auto with_shape(Tile tile, const Function& function) {
  return tile == Tile::tall ? function(TallTile()) : function(FlatTile());
}

int64_t shared_bytes(Tile tile) {
  return with_shape(tile, [](auto shape) { return decltype(shape)::kSharedBytes; });
}

int blocks_that_fit(const Gpu& gpu, int promised, int64_t shared) {
  const int64_t held = gpu.sm_shared_bytes / (shared + kReservedSharedBytes);
  return static_cast<int>(std::clamp<int64_t>(held, 1, promised));
}

/// Seconds, roughly: whole rounds of all SMs or what tiles read from L2, and what does not stay
/// there.
struct Cost {
  const Gpu& gpu;

  double product(double tiles, Tile tile, int64_t depth) const {
    const double rounds = std::max(1.0, std::ceil(tiles / gpu.num_sms));
    const double m = tile_rows(tile), n = tile_columns(tile), k = static_cast<double>(depth);
    return std::max(rounds * gpu.num_sms * 2 * m * n * k / gpu.tensor_flops,
                    tiles * (m + n) * k * 2 / gpu.l2_rate);
  }
  double slab(int64_t bytes) const {
    const bool stays = bytes <= slab_bytes_in_l2(gpu);
    return kSecondsOfSlab + (stays ? 0 : 2 * static_cast<double>(bytes) / gpu.hbm_rate);
  }
};

}  // namespace

const std::vector<Gpu>& known_gpus() {
  static const std::vector<Gpu> all = {
      {"A100", 80, 108, int64_t{40} << 20, 312e12, 2.0e12, 5e12},
      {"H100", 90, 132, int64_t{50} << 20, 989e12, 3.35e12, 5e12, 227 << 10, 228 << 10},
      {"B200", 100, 148, int64_t{126} << 20, 2250e12, 8.0e12, 10e12, 227 << 10, 228 << 10},
  };
  return all;
}

std::vector<Tile> tiles_of(const Gpu& gpu) {
  std::vector<Tile> tiles;
  switch (gpu.kernels) {
    case KernelSet::none:  // the same shapes, by which batched products are cut
    case KernelSet::mma:
      tiles = {Tile::tall, Tile::flat};
  }
  const auto fits = [&](Tile tile) { return shared_bytes(tile) <= gpu.block_shared_bytes; };
  std::erase_if(tiles, [&](Tile tile) { return tile != Tile::flat && !fits(tile); });
  return tiles;
}

Gpu gpu_of(int architecture, const GpuSizes& sizes) {
  Gpu gpu = known_gpus().front();
  if (architecture < gpu.architecture) gpu.kernels = KernelSet::none;
  for (const Gpu& known : known_gpus()) {
    if (known.architecture <= architecture) gpu = known;
  }
  gpu.num_sms = sizes.num_sms;
  gpu.l2_bytes = sizes.l2_bytes;
  gpu.block_shared_bytes = sizes.block_shared_bytes;
  gpu.sm_shared_bytes = sizes.sm_shared_bytes;
  return gpu;
}

int64_t slab_bytes_in_l2(const Gpu& gpu) {
  return static_cast<int64_t>(gpu.slab_share_of_l2 * static_cast<double>(gpu.l2_bytes));
}

FfnShape batched_shape(const std::vector<int64_t>& offsets, int64_t D, int64_t F, int64_t E,
                       int64_t bytes, int64_t expert_bytes) {
  constexpr int64_t kFloat = 4;
  FfnShape shape{D, F, E, offsets, /*experts_are_float=*/expert_bytes == kFloat};
  shape.slab_element_bytes = bytes < kFloat ? bytes + kFloat : bytes;
  shape.expert_copy_bytes = std::max(bytes, kFloat);
  return shape;
}

bool is_supported(const Gpu& gpu, int64_t D, int64_t F, int64_t E, int64_t G) {
  if (gpu.kernels == KernelSet::none || shared_bytes(Tile::flat) > gpu.block_shared_bytes) {
    return false;
  }
  return D > 0 && F > 0 && D % 8 == 0 && F % 8 == 0 && E >= 1 && E <= 64 && G >= 1 &&
         coefficient_bytes(static_cast<int>(E), static_cast<int>(std::min(G, int64_t{1} << 20))) <=
             std::min(kMostCoefficientBytes, gpu.block_shared_bytes);
}

int tile_rows(Tile tile) {
  return with_shape(tile, [](auto shape) { return decltype(shape)::M; });
}
int tile_columns(Tile tile) {
  return with_shape(tile, [](auto shape) { return decltype(shape)::N; });
}

SlabPlan plan_slabs(const Gpu& gpu, const FfnShape& shape, int64_t columns, int64_t depth,
                    int64_t step) {
  const int64_t G = shape.G();
  const Cost cost{gpu};
  const double expert_bytes =
      static_cast<double>(shape.E * columns * depth) * (shape.experts_are_float ? 4 : 2);
  SlabPlan best{};
  double best_seconds = -1;
  const auto consider = [&](Tile tile, int64_t all_tiles, int64_t segments, int64_t across) {
    const int64_t groups = ceil_divide(G, segments);
    const auto tiles = static_cast<double>(all_tiles * across) / static_cast<double>(groups);
    const SlabPlan plan{tile, segments,
                        std::min(round_up(across * tile_columns(tile), step), columns)};
    const int64_t bytes = shape.slab_bytes(segments, plan.columns * depth);
    if (bytes > kMostSlabBytes && (segments > 1 || across > 1)) return false;
    const auto slabs = static_cast<double>(ceil_divide(columns, plan.columns) * groups);
    const double seconds = slabs * (cost.product(tiles, tile, depth) + cost.slab(bytes)) +
                           static_cast<double>(groups) * expert_bytes / gpu.hbm_rate;
    if (best_seconds >= 0 && seconds >= best_seconds) return true;
    best_seconds = seconds;
    best = plan;
    return true;
  };
  for (const Tile tile : tiles_of(gpu)) {
    const int64_t all_tiles = count_tiles(shape.offsets, tile);
    const int64_t most_across = ceil_divide(columns, tile_columns(tile));
    for (int64_t segments = std::min(G, kMostSegmentsOfSlab);;) {
      for (int64_t across = 1;
           across <= most_across && consider(tile, all_tiles, segments, across);) {
        ++across;
      }
      if (segments == 1) break;
      segments = ceil_divide(segments, 2);
    }
  }
  return best;
}

GradientPlan plan_gradient(const Gpu& gpu, const FfnShape& shape, int64_t rows, int64_t columns) {
  const int64_t G = shape.G();
  const Cost cost{gpu};
  GradientPlan best{};
  double best_seconds = -1;
  const int64_t mean_tokens = std::max<int64_t>(1, shape.N() / G);
  const auto consider = [&](Tile tile, int64_t down, int64_t across) {
    const GradientPlan plan{tile, std::min(down * tile_rows(tile), rows),
                            std::min(across * tile_columns(tile), columns)};
    const int64_t bytes = shape.slab_bytes(G, plan.rows * plan.columns);
    const bool is_least = tile == Tile::flat && down == 1 && across == 1;
    if (bytes > kMostSlabBytes && !is_least) return false;
    const auto slabs =
        static_cast<double>(ceil_divide(columns, plan.columns) * ceil_divide(rows, plan.rows));
    const double seconds = slabs * (cost.product(static_cast<double>(G * across * down), tile,
                                                 round_up(mean_tokens, kDepth)) +
                                    cost.slab(bytes));
    if (best_seconds >= 0 && seconds >= best_seconds) return true;
    best_seconds = seconds;
    best = plan;
    return true;
  };
  for (const Tile tile : tiles_of(gpu)) {
    const int64_t most_down = ceil_divide(rows, tile_rows(tile));
    for (int64_t across = 1; across <= ceil_divide(columns, tile_columns(tile)); across *= 2) {
      for (int64_t down = 1; down <= most_down && consider(tile, down, across);) ++down;
    }
  }
  return best;
}

ForwardPlan plan_forward(const Gpu& gpu, const FfnShape& shape) {
  ForwardPlan plan;
  plan.gate_up = plan_slabs(gpu, shape, 2 * shape.F, shape.D, 16);
  plan.down = plan_slabs(gpu, shape, shape.D, shape.F, 8);
  plan.slab_elements = std::max(plan.gate_up.elements(shape.D), plan.down.elements(shape.F));
  return plan;
}

BackwardPlan plan_backward(const Gpu& gpu, const FfnShape& shape) {
  BackwardPlan plan;
  plan.hidden = plan_slabs(gpu, shape, shape.F, shape.D, 8);
  plan.input = plan_slabs(gpu, shape, shape.D, 2 * shape.F, 8);
  plan.gate = plan_gradient(gpu, shape, shape.F, shape.D);
  plan.down = plan_gradient(gpu, shape, shape.D, shape.F);
  plan.slab_elements = std::max({plan.hidden.elements(shape.D), plan.input.elements(2 * shape.F),
                                 shape.G() * plan.gate.rows * plan.gate.columns,
                                 shape.G() * plan.down.rows * plan.down.columns});
  plan.routing_blocks = gpu.num_sms;
  return plan;
}

std::vector<TokenTile> token_tiles(const std::vector<int64_t>& offsets, Tile tile) {
  std::vector<TokenTile> tiles;
  const int64_t M = tile_rows(tile);
  for (size_t g = 0; g + 1 < offsets.size(); ++g) {
    for (int64_t row = offsets[g]; row < offsets[g + 1]; row += M) {
      tiles.push_back({static_cast<int32_t>(g), static_cast<int32_t>(row),
                       static_cast<int32_t>(std::min(M, offsets[g + 1] - row)), 0});
    }
  }
  return tiles;
}

int64_t count_tiles(const std::vector<int64_t>& offsets, Tile tile) {
  int64_t count = 0;
  for (size_t g = 0; g + 1 < offsets.size(); ++g) {
    count += ceil_divide(offsets[g + 1] - offsets[g], tile_rows(tile));
  }
  return count;
}

std::vector<TokenTile> whole_segments(const std::vector<int64_t>& offsets) {
  std::vector<TokenTile> segments;
  for (size_t g = 0; g + 1 < offsets.size(); ++g) {
    segments.push_back({static_cast<int32_t>(g), static_cast<int32_t>(offsets[g]),
                        static_cast<int32_t>(offsets[g + 1] - offsets[g]), 0});
  }
  return segments;
}

int blocks_per_sm(const Gpu& gpu, Tile tile) {
  const int promised = with_shape(tile, [](auto shape) { return decltype(shape)::kBlocksPerSm; });
  return blocks_that_fit(gpu, promised, shared_bytes(tile));
}

int product_blocks(const Gpu& gpu, Tile tile, int64_t num_tiles) {
  return static_cast<int>(
      std::min<int64_t>(num_tiles, static_cast<int64_t>(gpu.num_sms) * blocks_per_sm(gpu, tile)));
}

int stream_blocks(const Gpu& gpu, int64_t items, int threads, int blocks_per_sm, int64_t shared) {
  const int64_t most =
      static_cast<int64_t>(gpu.num_sms) * blocks_that_fit(gpu, blocks_per_sm, shared);
  return static_cast<int>(std::clamp<int64_t>(ceil_divide(items, threads / 32), 1, most));
}

}  // namespace lorikeet::ops::cuda
