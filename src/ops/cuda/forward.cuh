#pragma once
#include "product.cuh"

/// Forward's two products over slabs of merged weights.
namespace lorikeet::ops::cuda {

/// Gate and up in one product: their rows are interleaved by 8 in the slab, so that a thread holds
/// a token's a in sums[i][j] and its b in sums[i][j + 1], and SwiGLU stays in registers.
template <class Shape>
LORIKEET_KERNEL(Shape::kThreads, Shape::kBlocksPerSm)
gate_up(const GateUpArguments arg) {
  using P = Product<Shape, false, false>;
  for_each_tile<Shape>(arg.product, [&](const TokenTile& tile, int column) {
    P product;
    product.run(token_operand(arg.product, tile), slab_operand<false>(arg.product, tile, column));
    LORIKEET_UNROLL
    for (int i = 0; i < P::kWarpM / 16; ++i) {
      LORIKEET_UNROLL
      for (int j = 0; j < P::kWarpN / 8; j += 2) {
        LORIKEET_UNROLL
        for (int half = 0; half < 2; ++half) {
          const int row = P::row(i, half), slab_column = column + P::column(j);
          if (row >= tile.num_rows || slab_column >= arg.product.columns) continue;
          const int f = slab_column / 16 * 8 + slab_column % 8;
          const int64_t at = (tile.row + row) * arg.stride + f;
          const float* a = &product.sums[i][j][half * 2];
          const float* b = &product.sums[i][j + 1][half * 2];
          device::store4(arg.h + at, device::pack(a[0] * device::sigmoid(a[0]) * b[0],
                                                  a[1] * device::sigmoid(a[1]) * b[1]));
          if (arg.a == nullptr) continue;
          device::store4(arg.a + at, device::pack(a[0], a[1]));
          device::store4(arg.b + at, device::pack(b[0], b[1]));
        }
      }
    }
  });
}

/// The plain product: down in forward; with a depth-major slab, dx in backward.
template <class Shape, bool kDepthMajorSlab>
LORIKEET_KERNEL(Shape::kThreads, Shape::kBlocksPerSm)
store_product(const StoreArguments arg) {
  using P = Product<Shape, false, kDepthMajorSlab>;
  for_each_tile<Shape>(arg.product, [&](const TokenTile& tile, int column) {
    P product;
    product.run(token_operand(arg.product, tile),
                slab_operand<kDepthMajorSlab>(arg.product, tile, column));
    LORIKEET_UNROLL
    for (int i = 0; i < P::kWarpM / 16; ++i) {
      LORIKEET_UNROLL
      for (int j = 0; j < P::kWarpN / 8; ++j) {
        LORIKEET_UNROLL
        for (int half = 0; half < 2; ++half) {
          const int row = P::row(i, half), slab_column = column + P::column(j);
          if (row >= tile.num_rows || slab_column >= arg.product.columns) continue;
          device::store4(
              arg.out + (tile.row + row) * arg.stride + slab_column,
              device::pack(product.sums[i][j][half * 2], product.sums[i][j][half * 2 + 1]));
        }
      }
    }
  });
}

}  // namespace lorikeet::ops::cuda
