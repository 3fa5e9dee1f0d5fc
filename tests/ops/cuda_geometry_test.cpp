// How the CUDA kernels' work is cut; what the cut computes is proved in tests/emulation/.
#include "src/ops/cuda/geometry.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace lorikeet::ops::cuda {
namespace {

/// GPUs of some architectures, as CUDA's programming guide has their shared memory.
Gpu a100() { return known_gpus()[0]; }
Gpu turing() {  // 75
  return gpu_of(75, {40, 4 << 20, 64 << 10, 64 << 10});
}
Gpu consumer(int architecture) {  // 86, 89, 120
  return gpu_of(architecture, {84, 6 << 20, 99 << 10, 100 << 10});
}

TEST(CudaGeometry, ShapesThatTheKernelsDoNotTakeAreNamed) {
  EXPECT_TRUE(is_supported(a100(), 8, 16, 1, 1));
  EXPECT_FALSE(is_supported(a100(), 12, 16, 1, 1));
  EXPECT_FALSE(is_supported(a100(), 8, 20, 1, 1));
  EXPECT_FALSE(is_supported(a100(), 0, 16, 1, 1));
  EXPECT_FALSE(is_supported(a100(), 8, 16, 65, 1));
  EXPECT_FALSE(is_supported(a100(), 8, 16, 0, 1));
  EXPECT_FALSE(is_supported(a100(), 8, 16, 1, 0));
  EXPECT_TRUE(is_supported(a100(), 8, 16, 64, 512));  // 4 x 32 coefficient fragments of 1 KB
  EXPECT_FALSE(is_supported(a100(), 8, 16, 64, 513));
}

TEST(CudaGeometry, GpusOfLittleSharedMemoryTakeFewerSegmentsAndHoldFewerBlocks) {
  for (const int architecture : {86, 89, 120}) {
    const Gpu gpu = consumer(architecture);
    EXPECT_TRUE(is_supported(gpu, 8, 16, 64, 24 * 16));  // 4 x 24 KB of 99
    EXPECT_FALSE(is_supported(gpu, 8, 16, 64, 25 * 16));
    EXPECT_EQ(tiles_of(gpu).size(), 2u);  // 96 and 48 KB
    EXPECT_EQ(blocks_per_sm(gpu, Tile::tall), 1);
    EXPECT_EQ(blocks_per_sm(gpu, Tile::flat), 2);  // of three
    EXPECT_EQ(product_blocks(gpu, Tile::flat, 1'000'000), 2 * gpu.num_sms);
  }
  EXPECT_EQ(blocks_per_sm(a100(), Tile::flat), 3);
  Gpu less = a100();
  less.block_shared_bytes = 64 << 10;
  EXPECT_EQ(tiles_of(less), std::vector<Tile>{Tile::flat});
}

TEST(CudaGeometry, BeforeSm80ThereAreNoKernelsButSlabsForBatchedProducts) {
  EXPECT_FALSE(is_supported(turing(), 8, 16, 1, 1));
  EXPECT_EQ(turing().num_sms, 40);
  FfnShape shape{64, 128, 4, {0, 16, 32}, true};
  EXPECT_GT(plan_forward(turing(), shape).slab_elements, 0);
}

TEST(CudaGeometry, StreamsHaveTheBlocksThatTheirRegistersAreLimitedFor) {
  const Gpu gpu = a100();
  EXPECT_EQ(stream_blocks(gpu, 1'000'000, 128, 3, 1 << 10), 3 * gpu.num_sms);
  EXPECT_EQ(stream_blocks(gpu, 1'000'000, 128, 4, 1 << 10), 4 * gpu.num_sms);
  EXPECT_EQ(stream_blocks(gpu, 1'000'000, 128, 4, 64 << 10), 2 * gpu.num_sms);  // 65 of 164 KB
  EXPECT_EQ(stream_blocks(gpu, 1'000'000, 128, 4, 128 << 10), 1 * gpu.num_sms);
  EXPECT_EQ(stream_blocks(gpu, 5, 128, 4, 1 << 10), 2);  // four items a block
}

TEST(CudaGeometry, TilesCoverEveryTokenOnceAndNoSegmentTwice) {
  const std::vector<int64_t> offsets{0, 0, 5, 5, 600, 664};
  for (const Tile tile : {Tile::tall, Tile::flat}) {
    int64_t next = 0;
    for (const TokenTile& t : token_tiles(offsets, tile)) {
      EXPECT_EQ(t.row, next);
      EXPECT_GT(t.num_rows, 0);
      EXPECT_LE(t.num_rows, tile_rows(tile));
      const auto g = static_cast<size_t>(t.segment);
      EXPECT_GE(t.row, offsets[g]);
      EXPECT_LE(t.row + t.num_rows, offsets[g + 1]);
      next += t.num_rows;
    }
    EXPECT_EQ(next, offsets.back());
  }
  const auto segments = whole_segments(offsets);
  ASSERT_EQ(segments.size(), 5u);
  EXPECT_EQ(segments[0].num_rows, 0);
  EXPECT_EQ(segments[3].num_rows, 595);
}

TEST(CudaGeometry, SlabsOfThePapersLayersFitTheirBounds) {
  for (const auto& [D, F] : {std::pair<int64_t, int64_t>{1024, 2816}, {1536, 4096}}) {
    for (const int64_t E : {8, 16, 32}) {
      FfnShape shape{D, F, E, {}, true};
      for (int64_t row = 0; row <= 16384; row += 256) shape.offsets.push_back(row);
      for (const Gpu& gpu : known_gpus()) {
        const ForwardPlan forward = plan_forward(gpu, shape);
        const BackwardPlan backward = plan_backward(gpu, shape);
        EXPECT_LE(forward.slab_elements * 2, 192 << 20) << gpu.name;
        EXPECT_LE(backward.slab_elements * 2, 192 << 20) << gpu.name;
        EXPECT_EQ(forward.gate_up.columns % 16, 0);
        for (const SlabPlan& p : {forward.down, backward.hidden, backward.input}) {
          EXPECT_EQ(p.columns % 8, 0);
          EXPECT_GT(p.segments, 0);
        }
      }
    }
  }
}

// Many tokens, long and short segments, wide layers: a slab of one segment and one tile is the
// least there can be.
TEST(CudaGeometry, SlabsAreBoundedHoweverLargeTheLayer) {
  for (const int64_t T : {32, 256, 4096}) {
    for (const int64_t N : {65536, 1 << 20}) {
      for (const auto& [D, F] : {std::pair<int64_t, int64_t>{1536, 4096}, {8192, 28672}}) {
        FfnShape shape{D, F, 8, {}, true};
        for (int64_t row = 0; row <= N; row += T) shape.offsets.push_back(row);
        for (const Gpu& gpu : {a100(), consumer(86)}) {
          const ForwardPlan forward = plan_forward(gpu, shape);
          const BackwardPlan backward = plan_backward(gpu, shape);
          EXPECT_LE(forward.slab_elements * 2, 192 << 20) << N << " " << T << " " << D;
          // All segments' gradients of one tile at least, which G alone decides.
          const int64_t least = shape.G() * 64 * 128 * 2;
          EXPECT_LE(backward.slab_elements * 2, std::max<int64_t>(192 << 20, least))
              << N << " " << T << " " << D;
        }
      }
    }
  }
}

TEST(CudaGeometry, OfSlabsThatCostTheSameTheOneThatStaysInL2IsTaken) {
  FfnShape shape{1024, 2816, 8, {}, true};
  for (int64_t row = 0; row <= 16384; row += 256) shape.offsets.push_back(row);
  const auto bytes = [&](const Gpu& gpu) {
    return plan_forward(gpu, shape).gate_up.elements(shape.D) * 2;
  };
  EXPECT_LE(bytes(a100()), slab_bytes_in_l2(a100()));
  EXPECT_EQ(slab_bytes_in_l2(a100()), 24 << 20);
}

TEST(CudaGeometry, AGpuTakesTheRowOfTheNewestArchitectureNotAboveIt) {
  const GpuSizes sizes{1, 1, 1, 1};
  EXPECT_STREQ(gpu_of(80, sizes).name, "A100");
  EXPECT_STREQ(gpu_of(86, sizes).name, "A100");
  EXPECT_STREQ(gpu_of(89, sizes).name, "A100");
  EXPECT_STREQ(gpu_of(90, sizes).name, "H100");
  EXPECT_STREQ(gpu_of(120, sizes).name, "B200");
  EXPECT_EQ(consumer(86).num_sms, 84);
  EXPECT_EQ(consumer(86).kernels, KernelSet::mma);
  EXPECT_EQ(turing().kernels, KernelSet::none);
}

}  // namespace
}  // namespace lorikeet::ops::cuda
