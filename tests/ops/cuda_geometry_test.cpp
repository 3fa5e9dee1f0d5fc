// How the CUDA kernels' work is cut; what the cut computes is proved in tests/emulation/.
#include "src/ops/cuda/geometry.h"

#include <gtest/gtest.h>

namespace lorikeet::ops::cuda {
namespace {

TEST(CudaGeometry, ShapesThatTheKernelsDoNotTakeAreNamed) {
  EXPECT_TRUE(is_supported(8, 16, 1, 1));
  EXPECT_FALSE(is_supported(12, 16, 1, 1));
  EXPECT_FALSE(is_supported(8, 20, 1, 1));
  EXPECT_FALSE(is_supported(0, 16, 1, 1));
  EXPECT_FALSE(is_supported(8, 16, 65, 1));
  EXPECT_FALSE(is_supported(8, 16, 0, 1));
  EXPECT_FALSE(is_supported(8, 16, 1, 0));
  EXPECT_TRUE(is_supported(8, 16, 64, 512));  // 4 x 32 coefficient fragments
  EXPECT_FALSE(is_supported(8, 16, 64, 513));
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

TEST(CudaGeometry, AGpuTakesTheRowOfTheNewestArchitectureNotAboveIt) {
  EXPECT_STREQ(gpu_of(80, 1, 1).name, "A100");
  EXPECT_STREQ(gpu_of(86, 1, 1).name, "A100");
  EXPECT_STREQ(gpu_of(90, 1, 1).name, "H100");
  EXPECT_STREQ(gpu_of(120, 1, 1).name, "B200");
  EXPECT_EQ(gpu_of(86, 84, 6 << 20).num_sms, 84);
}

}  // namespace
}  // namespace lorikeet::ops::cuda
