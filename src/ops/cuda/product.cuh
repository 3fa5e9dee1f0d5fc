#pragma once
#include <lorikeet_device.h>

#include "tiles.h"

/// The main loop that every product shares: a block's tile [M, N] of left times right, bf16 through
/// tensor cores into fp32 registers.
///
/// Operands come into shared memory by asynchronous copies in steps of kDepth: kStages - 1 are
/// under way while one is multiplied. Each lies there as it lies in global memory, and ldmatrix,
/// plain or transposed, makes fragments of it. Chunks of 8 elements are swizzled by their row, so
/// that neither the copies nor ldmatrix meet a bank twice.
namespace lorikeet::ops::cuda {

/// A matrix operand in global memory: element (index, depth) at [index * stride + depth], or, depth
/// major, at [depth * stride + index]. Beyond extent and depth are zeros.
struct Operand {
  const bf16* base;
  int64_t stride;
  int extent, depth;
};

template <int kExtent, bool kDepthMajor, int kThreads>
struct OperandTile {
  static constexpr int kRows = kDepthMajor ? kDepth : kExtent;
  static constexpr int kChunks = (kDepthMajor ? kExtent : kDepth) / 8;
  static constexpr int kElements = kExtent * kDepth;
  static_assert(kRows * kChunks % kThreads == 0);

  /// Rows of kDepth take 64 bytes: two of them fill the banks.
  static LORIKEET_DEVICE int offset(int row, int chunk) {
    const int swizzle = kDepthMajor ? row & 7 : row >> 1 & 3;
    return (row * kChunks + (chunk ^ swizzle)) * 8;
  }

  static LORIKEET_DEVICE void start_copy(bf16* tile, const Operand& operand, int first_depth) {
    LORIKEET_UNROLL
    for (int n = 0; n < kRows * kChunks / kThreads; ++n) {
      const int i = n * kThreads + device::thread();
      const int row = i / kChunks, chunk = i % kChunks;
      const int index = kDepthMajor ? chunk * 8 : row;
      const int depth = first_depth + (kDepthMajor ? row : chunk * 8);
      const bool is_valid = index < operand.extent && depth < operand.depth;
      const int64_t at =
          kDepthMajor ? depth * operand.stride + index : index * operand.stride + depth;
      device::copy_async16(tile + offset(row, chunk), operand.base + (is_valid ? at : 0), is_valid);
    }
  }

  /// The 16 x 16 fragment at (index, depth): of the left operand, or of the right one, whose two
  /// halves are two 8-wide fragments.
  template <bool kIsLeft>
  static LORIKEET_DEVICE void fragment(uint32_t (&r)[4], const bf16* tile, int index, int depth) {
    const int lane = device::thread() % 32, matrix = lane / 8, row = lane % 8;
    index += (kIsLeft ? matrix & 1 : matrix >> 1) * 8;
    depth += (kIsLeft ? matrix >> 1 : matrix & 1) * 8;
    if constexpr (kDepthMajor) {
      device::load_matrices_transposed(r, tile + offset(depth + row, index / 8));
    } else {
      device::load_matrices(r, tile + offset(index + row, depth / 8));
    }
  }
};

template <class Shape, bool kLeftDepthMajor, bool kRightDepthMajor>
struct Product {
  using Left = OperandTile<Shape::M, kLeftDepthMajor, Shape::kThreads>;
  using Right = OperandTile<Shape::N, kRightDepthMajor, Shape::kThreads>;
  static constexpr int kWarpM = Shape::M / Shape::kWarpsM, kWarpN = Shape::N / Shape::kWarpsN;
  struct Stage {
    alignas(128) bf16 left[Left::kElements];
    bf16 right[Right::kElements];
  };
  struct Shared {
    Stage stages[Shape::kStages];
  };
  static_assert(sizeof(Shared) == Shape::kSharedBytes);

  float sums[kWarpM / 16][kWarpN / 8][4];

  static LORIKEET_DEVICE int warp_row() { return device::thread() / 32 / Shape::kWarpsN * kWarpM; }
  static LORIKEET_DEVICE int warp_column() {
    return device::thread() / 32 % Shape::kWarpsN * kWarpN;
  }

  /// sums = left right. Every thread of the block calls it; shared memory is free again afterwards.
  LORIKEET_DEVICE void run(const Operand& left, const Operand& right) {
    Shared& shared = device::shared_memory<Shared>();
    const int steps = (left.depth + kDepth - 1) / kDepth;
    const auto start = [&](int step) {
      if (step < steps) {
        Stage& stage = shared.stages[step % Shape::kStages];
        Left::start_copy(stage.left, left, step * kDepth);
        Right::start_copy(stage.right, right, step * kDepth);
      }
      device::commit_copies();  // an empty group too, so that counting them stays simple
    };
    clear();
    for (int step = 0; step < Shape::kStages - 1; ++step) start(step);
    for (int step = 0; step < steps; ++step) {
      device::wait_copies<Shape::kStages - 2>();
      device::sync_block();  // everybody's copies are there, and the stage before is no longer read
      start(step + Shape::kStages - 1);
      multiply(shared.stages[step % Shape::kStages]);
    }
    device::wait_copies<0>();
    device::sync_block();
  }

  /// Calls visit(i, j) for the pairs of columns that the thread holds: sums[i][j][half * 2 .. + 1]
  /// is row(i, half), column(j) .. + 1 of the tile.
  static LORIKEET_DEVICE int row(int i, int half) {
    return warp_row() + i * 16 + half * 8 + device::thread() % 32 / 4;
  }
  static LORIKEET_DEVICE int column(int j) {
    return warp_column() + j * 8 + device::thread() % 4 * 2;
  }

 private:
  LORIKEET_DEVICE void clear() {
    LORIKEET_UNROLL
    for (int i = 0; i < kWarpM / 16; ++i) {
      LORIKEET_UNROLL
      for (int j = 0; j < kWarpN / 8; ++j) {
        LORIKEET_UNROLL
        for (int q = 0; q < 4; ++q) sums[i][j][q] = 0;
      }
    }
  }

  LORIKEET_DEVICE void multiply(const Stage& stage) {
    LORIKEET_UNROLL
    for (int depth = 0; depth < kDepth; depth += 16) {
      uint32_t left[kWarpM / 16][4], right[kWarpN / 16][4];
      LORIKEET_UNROLL
      for (int i = 0; i < kWarpM / 16; ++i) {
        Left::template fragment<true>(left[i], stage.left, warp_row() + i * 16, depth);
      }
      LORIKEET_UNROLL
      for (int j = 0; j < kWarpN / 16; ++j) {
        Right::template fragment<false>(right[j], stage.right, warp_column() + j * 16, depth);
      }
      LORIKEET_UNROLL
      for (int i = 0; i < kWarpM / 16; ++i) {
        LORIKEET_UNROLL
        for (int j = 0; j < kWarpN / 8; ++j) {
          device::multiply_add(sums[i][j], left[i], right[j / 2][j % 2 * 2],
                               right[j / 2][j % 2 * 2 + 1]);
        }
      }
    }
  }
};

/// Calls tile(token_tile, first column) for the tiles of a product that fall to this block: blocks
/// are as many as run at once, and take tiles in turn.
template <class Shape, class Function>
LORIKEET_DEVICE void for_each_tile(const ProductArguments& arg, const Function& tile) {
  const int across = (arg.columns + Shape::N - 1) / Shape::N;
  for (int i = device::block(); i < arg.num_tiles * across; i += device::num_blocks()) {
    tile(device::load_tile(arg.tiles + i / across), i % across * Shape::N);
  }
}

/// The operands of one tile. The slab holds right [columns, depth], or [depth, columns] if depth
/// major.
template <bool kDepthMajor>
LORIKEET_DEVICE Operand slab_operand(const ProductArguments& arg, const TokenTile& tile,
                                     int column) {
  const bf16* slab = arg.slab + (tile.segment - arg.first_segment) * arg.slab_segment_stride;
  return {slab + (kDepthMajor ? column : column * arg.slab_row_stride), arg.slab_row_stride,
          arg.columns - column, arg.depth};
}
LORIKEET_DEVICE Operand token_operand(const ProductArguments& arg, const TokenTile& tile) {
  return {arg.left + tile.row * arg.left_stride, arg.left_stride, tile.num_rows, arg.depth};
}

}  // namespace lorikeet::ops::cuda
