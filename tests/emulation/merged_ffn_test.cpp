// The CUDA kernels of the merged feed-forward, run by the emulator, against the reference in fp64.
//
// N tokens, D model, F feed-forward width, E experts, G segments.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>

#include "src/ops/cuda/host/work.h"
#include "tests/emulation/emulator.h"
#include "tests/emulation/layer.h"

namespace lorikeet::emulation {
namespace {

using torch::Tensor;

double relative_error(const Tensor& actual, const Tensor& expected) {
  const Tensor difference = actual.to(torch::kDouble) - expected;
  const double scale = expected.norm().item<double>();
  return difference.norm().item<double>() / (scale == 0 ? 1 : scale);
}

void expect_no_faults() {
  const Report report = take_report();
  EXPECT_EQ(report.num_faults, 0) << report.text();
  for (const KernelRun& run : report.runs) EXPECT_EQ(run.counts.bank_conflicts, 0) << run.name;
}

struct Case {
  std::vector<int64_t> lengths;
  int64_t D, F, E;
  bool experts_are_float;
};

std::vector<Case> cases() {
  std::vector<Case> all = {
      {{64, 64}, 32, 64, 1, false},                     // whole flat tiles
      {{5, 0, 1, 70, 16, 0}, 40, 24, 3, false},         // empty, short and odd segments
      {{5, 0, 1, 70, 16, 0}, 40, 24, 3, true},          //
      {{260}, 24, 40, 8, true},                         // a segment of two tall tiles
      {std::vector<int64_t>(19, 3), 16, 8, 32, false},  // more segments than 16
      {{9, 40}, 8, 136, 32, true},                      // columns beyond one tile
      {{1}, 8, 8, 64, false},                           //
      {std::vector<int64_t>(70, 2), 8, 8, 3, true},     // more than routing_gradients holds at once
      {{2, 3}, 8, 8, 32, true},                         //
  };
#if !defined(LORIKEET_INSTRUMENTED)
  all = {all[2], all[6], all[7], all[8]};  // AddressSanitizer takes its time
#endif
  return all;
}

class EmulatedMergedFfn : public testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Shapes, EmulatedMergedFfn, testing::ValuesIn(cases()));

// bf16 rounds merged weights, h, da, db, the saved products and segment gradients once each, to
// 2^-9 at most.
void expect_near(const std::vector<Tensor>& actual, const std::vector<Tensor>& expected) {
  const char* names[] = {"y", "dx", "drouting", "dgate", "dup", "ddown"};
  for (size_t i = 0; i < actual.size(); ++i) {
    EXPECT_LT(relative_error(actual[i], expected[i]), 1.2e-2) << names[i];
  }
}

TEST_P(EmulatedMergedFfn, EqualsTheReferenceInFp64UpToTheRoundingOfBf16) {
  const Case& c = GetParam();
  set_schedule({.seed = 3, .resident_blocks = 3});
  const Layer layer = Layer::make(c.lengths, c.D, c.F, c.E, c.experts_are_float);
  expect_near(run_emulated(layer, small_gpu()).all(), run_reference(layer).all());
  expect_no_faults();
}

TEST(EmulatedMergedFfnNeeds, WhatIsNotAskedForIsNotComputedAndChangesNothing) {
  set_schedule({});
  const Layer layer = Layer::make({20, 0, 9}, 16, 24, 3, true);
  const auto all = run_emulated(layer, small_gpu()).all();
  const auto is_launched = [](const Report& report, const std::string& name) {
    return std::any_of(report.runs.begin(), report.runs.end(),
                       [&](const KernelRun& run) { return run.name == name; });
  };
  // Each alone, all but each, and the experts without the router's or x's.
  std::vector<Needed> masks = {{false, false, true, true, true}};
  for (size_t i = 0; i < 5; ++i) {
    Needed alone{}, others = kAll;
    alone[i] = true;
    others[i] = false;
    masks.insert(masks.end(), {alone, others});
  }
  for (const Needed& needed : masks) {
    take_report();
    const auto some = run_emulated(layer, small_gpu(), {}, needed).all();
    for (size_t i = 0; i < 5; ++i) {
      ASSERT_EQ(some[i + 1].defined(), needed[i]) << i;
      if (needed[i]) {
        EXPECT_TRUE(torch::equal(some[i + 1], all[i + 1])) << i;
      }
    }
    const Report report = take_report();
    EXPECT_EQ(report.num_faults, 0) << report.text();
    EXPECT_EQ(is_launched(report, "input_gradient"), needed[0]);
    EXPECT_EQ(is_launched(report, "routing_gradients"), needed[1]);
    EXPECT_EQ(is_launched(report, "expert_gradients"), needed[2] || needed[3] || needed[4]);
  }
}

TEST(EmulatedMergedFfnExperts, AreAnyNumberTo64) {
  set_schedule({});
#if defined(LORIKEET_INSTRUMENTED)
  constexpr int kStep = 1;
#else
  constexpr int kStep = 21;
#endif
  for (int64_t E = 1; E <= 64; E += kStep) {
    const Layer layer = Layer::make({3, 0, 18}, 16, 24, E, /*experts_are_float=*/E % 2 == 0);
    expect_near(run_emulated(layer, small_gpu()).all(), run_reference(layer).all());
    const Report report = take_report();
    EXPECT_EQ(report.num_faults, 0) << E << " experts: " << report.text();
  }
}

// A small model's layer: many tiles, slabs and steps of depth, on a GPU of a few multiprocessors.
TEST(SlowEmulatedLayer, OfASmallModelEqualsTheReference) {
  set_schedule({.seed = 5, .resident_blocks = 4});
  const Layer layer = Layer::make({256, 256, 100, 256}, 128, 352, 8, /*experts_are_float=*/true);
  ops::cuda::Gpu gpu = small_gpu();
  gpu.num_sms = 4;
  gpu.l2_bytes = 1 << 20;
  expect_near(run_emulated(layer, gpu).all(), run_reference(layer).all());
  expect_no_faults();
}

using ops::cuda::Tile;

class EmulatedTiles : public testing::TestWithParam<Tile> {};
INSTANTIATE_TEST_SUITE_P(Both, EmulatedTiles, testing::Values(Tile::tall, Tile::flat));

TEST_P(EmulatedTiles, EveryProductTakesBothShapesOfTile) {
  set_schedule({.seed = 9, .resident_blocks = 2});
  const Layer layer = Layer::make({70, 0, 3}, 40, 72, 5, true);
  expect_near(run_emulated(layer, small_gpu(), GetParam()).all(), run_reference(layer).all());
  const Report report = take_report();
  EXPECT_EQ(report.num_faults, 0) << report.text();
  std::map<std::string, int> threads;
  for (const KernelRun& run : report.runs) threads[run.name] = run.threads;
  for (const char* name :
       {"gate_up", "down", "hidden_gradient", "input_gradient", "segment_gradients"}) {
    EXPECT_EQ(threads[name], GetParam() == Tile::tall ? 256 : 128) << name;
  }
}

// A small L2 makes many slabs and groups of segments; a large one makes one of each.
TEST(EmulatedMergedFfnSlabs, CutsOfAnySizeGiveTheSameBits) {
  set_schedule({});
  const Layer layer = Layer::make({20, 0, 7}, 8, 136, 3, false);
  ops::cuda::Gpu large = small_gpu();
  large.l2_bytes = int64_t{1} << 30;
  ops::cuda::Gpu small = small_gpu();
  small.l2_bytes = 12 << 10;  // where columns of one tile stay, 6 KB for all segments
  const auto runs_of = [](const char* name) {
    int runs = 0;
    for (const KernelRun& run : take_report().runs) runs += run.name == name ? 1 : 0;
    return runs;
  };
  const Tensor cut = run_emulated_forward(layer, small);
  EXPECT_GT(runs_of("gate_up"), 2);
  const Tensor whole = run_emulated_forward(layer, large);
  EXPECT_EQ(runs_of("gate_up"), 1);
  EXPECT_TRUE(torch::equal(cut, whole));
}

// The roofline's figures are computed from launch arguments; the emulator counts what threads do.
TEST(EmulatedMergedFfnWork, IsWhatLaunchArgumentsSay) {
  set_schedule({});
  for (const bool experts_are_float : {false, true}) {
    const Layer layer = Layer::make({70, 0, 3, 20}, 40, 72, 9, experts_are_float);
    const Tile tile = experts_are_float ? Tile::tall : Tile::flat;
    take_report();
    run_emulated(layer, small_gpu(), tile);
    const Report report = take_report();
    ops::cuda::WorkCounter counter;
    run_layer(counter, layer, small_gpu(), tile);
    ASSERT_EQ(report.runs.size(), counter.launches.size());
    for (size_t i = 0; i < report.runs.size(); ++i) {
      const Counts& counted = report.runs[i].counts;
      const ops::cuda::Work& computed = counter.launches[i].work;
      const std::string& name = report.runs[i].name;
      EXPECT_EQ(name, counter.launches[i].name);
      EXPECT_EQ(counted.global_read_bytes, computed.global_read_bytes) << name;
      EXPECT_EQ(counted.global_written_bytes, computed.global_written_bytes) << name;
      EXPECT_EQ(counted.touched_read_bytes, computed.touched_read_bytes) << name;
      EXPECT_EQ(counted.touched_written_bytes, computed.touched_written_bytes) << name;
      EXPECT_EQ(counted.shared_copied_bytes, computed.shared_copied_bytes) << name;
      EXPECT_EQ(counted.shared_matrix_bytes, computed.shared_matrix_bytes) << name;
      EXPECT_EQ(counted.tensor_flops, computed.tensor_flops) << name;
      EXPECT_EQ(counted.watched_bytes, computed.slab_bytes) << name;
    }
  }
}

TEST(EmulatedMergedFfnSaving, WhatIsSavedDoesNotChangeY) {
  set_schedule({});
  const Layer layer = Layer::make({20, 9}, 16, 24, 2, true);
  EXPECT_TRUE(
      torch::equal(run_emulated_forward(layer, small_gpu()), run_emulated(layer, small_gpu()).y));
  expect_no_faults();
}

#if defined(LORIKEET_INSTRUMENTED)
// Segments enough for several tiles a block and for two rounds of routing_gradients.
TEST(EmulatedMergedFfnBarriers, AreAllNeeded) {
  const Layer layer = Layer::make(std::vector<int64_t>(70, 2), 8, 8, 3, true);
  const auto run = [&](const std::string& without) {
    set_schedule({.seed = 2, .without_barrier = without});
    take_report();
    run_emulated(layer, small_gpu());
    return take_report();
  };
  const auto barriers = run("").barriers;
  EXPECT_EQ(barriers.size(), 5u);  // two of products, two of routing_gradients, combine's
  for (const std::string& barrier : barriers) {
    const Report report = run(barrier);
    EXPECT_TRUE(report.has(FaultKind::race) || report.has(FaultKind::copy_in_flight)) << barrier;
  }
}
#endif

TEST(EmulatedMergedFfnSchedules, GiveTheSameBits) {
  const Layer layer = Layer::make({30, 0, 70}, 24, 40, 3, true);
  std::vector<Tensor> first;
  for (unsigned seed = 1; seed <= 3; ++seed) {
    set_schedule({.seed = seed, .resident_blocks = static_cast<int>(seed)});
    const auto again = run_emulated(layer, small_gpu()).all();
    if (first.empty()) first = again;
    for (size_t i = 0; i < first.size(); ++i) EXPECT_TRUE(torch::equal(first[i], again[i])) << i;
  }
  expect_no_faults();
}

}  // namespace
}  // namespace lorikeet::emulation
