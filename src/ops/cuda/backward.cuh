#pragma once
#include "product.cuh"

/// Backward's products. dx is store_product over a slab of gate above up (forward.cuh).
namespace lorikeet::ops::cuda {

/// dh = dy down, and from it, a and b at once da, db and h.
template <class Shape>
LORIKEET_KERNEL(Shape::kThreads, Shape::kBlocksPerSm)
hidden_gradient(const HiddenGradientArguments arg) {
  using P = Product<Shape, false, true>;
  for_each_tile<Shape>(arg.product, [&](const TokenTile& tile, int column) {
    P product;
    product.run(token_operand(arg.product, tile), slab_operand<true>(arg.product, tile, column));
    LORIKEET_UNROLL
    for (int i = 0; i < P::kWarpM / 16; ++i) {
      LORIKEET_UNROLL
      for (int j = 0; j < P::kWarpN / 8; ++j) {
        LORIKEET_UNROLL
        for (int half = 0; half < 2; ++half) {
          const int row = P::row(i, half), f = column + P::column(j);
          if (row >= tile.num_rows || f >= arg.product.columns) continue;
          const int64_t at = (tile.row + row) * arg.stride + f;
          const int64_t to = (tile.row + row) * arg.gradient_stride + f;
          const uint32_t a_pair = device::load4(arg.a + at), b_pair = device::load4(arg.b + at);
          float da[2], db[2], h[2];
          LORIKEET_UNROLL
          for (int k = 0; k < 2; ++k) {
            const float dh = product.sums[i][j][half * 2 + k];
            const float a = device::as_float(k == 0 ? a_pair << 16 : a_pair & 0xffff0000u);
            const float b = device::as_float(k == 0 ? b_pair << 16 : b_pair & 0xffff0000u);
            const float sigma = device::sigmoid(a), silu = a * sigma;
            h[k] = silu * b;
            db[k] = dh * silu;
            da[k] = dh * b * sigma * (1 + a * (1 - sigma));
          }
          device::store4(arg.h + at, device::pack(h[0], h[1]));
          device::store4(arg.da + to, device::pack(da[0], da[1]));
          device::store4(arg.db + to, device::pack(db[0], db[1]));
        }
      }
    }
  });
}

/// slab[s] = left_s^T right_s over the tokens of segment s; zeros where it has none.
template <class Shape>
LORIKEET_KERNEL(Shape::kThreads, Shape::kBlocksPerSm)
segment_gradients(const SegmentGradientArguments arg) {
  using P = Product<Shape, true, true>;
  const int down = (arg.rows + Shape::M - 1) / Shape::M;
  const int across = (arg.columns + Shape::N - 1) / Shape::N;
  for (int item = device::block(); item < arg.num_segments * down * across;
       item += device::num_blocks()) {
    const int s = item / (down * across);
    const int first_row = item / across % down * Shape::M, first_column = item % across * Shape::N;
    const TokenTile tokens = device::load_tile(arg.segments + s);
    P product;
    product.run({arg.left + tokens.row * arg.left_stride + first_row, arg.left_stride,
                 arg.rows - first_row, tokens.num_rows},
                {arg.right + tokens.row * arg.right_stride + first_column, arg.right_stride,
                 arg.columns - first_column, tokens.num_rows});
    bf16* slab = arg.slab + static_cast<int64_t>(s) * arg.rows * arg.columns;
    LORIKEET_UNROLL
    for (int i = 0; i < P::kWarpM / 16; ++i) {
      LORIKEET_UNROLL
      for (int j = 0; j < P::kWarpN / 8; ++j) {
        LORIKEET_UNROLL
        for (int half = 0; half < 2; ++half) {
          const int row = first_row + P::row(i, half), column = first_column + P::column(j);
          if (row >= arg.rows || column >= arg.columns) continue;
          device::store4(
              slab + static_cast<int64_t>(row) * arg.columns + column,
              device::pack(product.sums[i][j][half * 2], product.sums[i][j][half * 2 + 1]));
        }
      }
    }
  }
}

}  // namespace lorikeet::ops::cuda
