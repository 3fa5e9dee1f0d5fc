// The emulator itself: the layouts it must share with a GPU, and the faults it must find.
#include "tests/emulation/emulator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <set>
#include <vector>

#include "tests/emulation/collectives.h"
#include "tests/emulation/probes.h"

namespace lorikeet::emulation {
namespace {

using ops::cuda::bf16;

bf16 to_bf16(float value) {  // exact for the small integers used here
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return {static_cast<uint16_t>(bits >> 16)};
}

struct Probe {
  static constexpr int kBlocks = 4;
  std::vector<bf16> a, b;
  std::vector<float> out = std::vector<float>(kBlocks * kProbeOutputs, NAN);

  Probe() {
    for (int i = 0; i < 512; ++i) a.push_back(to_bf16(static_cast<float>(i * 7 % 31 - 15)));
    for (int i = 0; i < 256; ++i) b.push_back(to_bf16(static_cast<float>(i * 5 % 23 - 11)));
  }
  Report run(Plant plant, unsigned seed) {
    set_schedule({.seed = seed, .resident_blocks = 3});
    take_report();
    launch_probe(kBlocks, {a.data(), b.data(), out.data(), plant});
    return take_report();
  }
};

float value(bf16 x) {
  const uint32_t bits = uint32_t{x.bits} << 16;
  float f;
  std::memcpy(&f, &bits, sizeof f);
  return f;
}

TEST(Emulator, AKernelWithoutFaultsComputesAndHasNone) {
  for (unsigned seed = 1; seed <= 8; ++seed) {
    Probe probe;
    const Report report = probe.run(Plant::none, seed);
    EXPECT_EQ(report.num_faults, 0) << report.text();
    for (int block = 0; block < Probe::kBlocks; ++block) {
      const float* out = &probe.out[static_cast<size_t>(block * kProbeOutputs)];
      float sum = 0;
      for (int i = 0; i < 32; ++i) {
        for (int j = 0; j < 16; ++j) {
          float expected = 0;
          for (int k = 0; k < 16; ++k) {
            expected += value(probe.a[static_cast<size_t>(i * 16 + k)]) *
                        value(probe.b[static_cast<size_t>(j * 16 + k)]);
          }
          ASSERT_EQ(out[i * 16 + j], expected) << i << ", " << j;
          sum += expected;
        }
      }
      EXPECT_EQ(out[512], sum);  // integers: exact
    }
  }
}

struct Planted {
  Plant plant;
  FaultKind kind;
  const char* place;  ///< a part of the message
};

class EmulatorFinds : public testing::TestWithParam<Planted> {};

TEST_P(EmulatorFinds, ThePlantedFaultInEveryOrder) {
  const auto& [plant, kind, place] = GetParam();
  for (unsigned seed = 1; seed <= 8; ++seed) {
    Probe probe;
    const Report report = probe.run(plant, seed);
    EXPECT_TRUE(report.has(kind)) << "seed " << seed << ": " << report.text();
    EXPECT_THAT(report.text(), testing::HasSubstr(place));
  }
}

// What needs instrumented loads and stores cannot be found in the build for AddressSanitizer.
#if defined(LORIKEET_INSTRUMENTED)
constexpr bool kIsInstrumented = true;
#else
constexpr bool kIsInstrumented = false;
#endif

std::vector<Planted> planted() {
  std::vector<Planted> all = {
      {Plant::divergent_barrier, FaultKind::divergent, "waits at probes.cpp:"},
      {Plant::barriers_apart, FaultKind::divergent, "probes.cpp:"},
      {Plant::divergent_shuffle, FaultKind::divergent, "waits at probes.cpp:"},
      {Plant::beyond_shared_copy, FaultKind::out_of_bounds, "copies 16 bytes outside"},
      {Plant::same_output, FaultKind::blocks_interfere, "global memory of block"},
      {Plant::copy_never_awaited, FaultKind::copy_in_flight, "ended before its copies"},
      {Plant::global_race, FaultKind::race, "global memory that thread 0 touched"},
      {Plant::misaligned_copy, FaultKind::misaligned, "copies 16 bytes at shared byte"},
      {Plant::misaligned_global, FaultKind::misaligned, "16 bytes of global memory"},
  };
  if (kIsInstrumented) {
    all.insert(all.end(),
               {{Plant::no_barrier, FaultKind::race, "touched without a barrier"},
                {Plant::no_wait, FaultKind::copy_in_flight, "may still write"},
                {Plant::wait_for_too_few, FaultKind::copy_in_flight, "may still write"},
                {Plant::beyond_shared, FaultKind::out_of_bounds, "writes 4 bytes outside"},
                {Plant::far_beyond_shared, FaultKind::out_of_bounds, "writes 4 bytes outside"},
                {Plant::elsewhere, FaultKind::out_of_bounds, "neither shared nor the thread's"},
                {Plant::warp_race, FaultKind::race, "touched without a barrier"},
                {Plant::late_overwrite, FaultKind::race, "writes shared byte"},
                {Plant::read_unwritten, FaultKind::uninitialised, "nobody wrote"},
                {Plant::misaligned_shared, FaultKind::misaligned, "reads 4 bytes at shared byte"}});
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Plants, EmulatorFinds, testing::ValuesIn(planted()), [](const auto& info) {
  return "Plant" + std::to_string(static_cast<int>(info.param.plant));
});

// There AddressSanitizer itself stops the program, which is as good.
TEST(EmulatorDeathTest, AddressSanitizerFindsWhatIsBeyondSharedMemory) {
  if (kIsInstrumented) GTEST_SKIP() << "the instrumented build reports it: Plant7";
  Probe probe;
  EXPECT_DEATH(probe.run(Plant::beyond_shared, 1), "AddressSanitizer: use-after-poison");
}

// The last of several readers is not the only one.
TEST(Emulator, ABlockThatWritesWhatOthersReadIsFoundWhoeverReadLast) {
  for (const int writes_after : {1, 2, 3}) {
    set_schedule({.seed = 1, .resident_blocks = 1});
    take_report();
    float cell = 0;
    int reads = 0;
    run("readers", 3, 32, 16, [&] {
      if (here.thread != 0) return;
      touch_global(&cell, sizeof cell, /*is_write=*/false);
      if (++reads == writes_after) touch_global(&cell, sizeof cell, /*is_write=*/true);
    });
    EXPECT_TRUE(take_report().has(FaultKind::blocks_interfere)) << writes_after;
  }
}

TEST(Emulator, ABarrierThatIsPassedOverIsMissed) {
  const Report report = Probe().run(Plant::none, 1);
  ASSERT_EQ(report.barriers.size(), 2u);
  for (const std::string& barrier : report.barriers) {
    set_schedule({.seed = 1, .without_barrier = barrier});
    Probe probe;
    launch_probe(Probe::kBlocks, {probe.a.data(), probe.b.data(), probe.out.data(), Plant::none});
    EXPECT_EQ(take_report().has(FaultKind::race), kIsInstrumented) << barrier;
  }
}

TEST(Emulator, ACopyIsPoisonedUntilItIsWaitedFor) {
  Probe probe;
  probe.run(Plant::no_wait, 1);
  EXPECT_TRUE(std::isnan(probe.out[0]));
}

TEST(Emulator, SeveralBlocksAreAliveAtOnceAndOrdersDiffer) {
  const auto trace = [](unsigned seed) {
    set_schedule({.seed = seed, .resident_blocks = 3});
    std::vector<int> order;
    run("trace", 6, 32, 16, [&] {
      for (int i = 0; i < 4; ++i) {
        order.push_back(here.block);
        wait_for_block(Place::current());
      }
    });
    return order;
  };
  const std::vector<int> first = trace(1), again = trace(1), other = trace(2);
  EXPECT_EQ(first, again);
  EXPECT_NE(first, other);
  std::set<int> early(first.begin(), first.begin() + 96);
  EXPECT_EQ(early.size(), 3u) << "96 steps of 3 blocks of 32 threads";
  EXPECT_EQ(take_report().num_faults, 0);
}

// PTX ISA, "Matrix Fragments for mma.m16n8k16" (.bf16): which element each register half holds,
// written down a second time, from the table.
TEST(Emulator, FragmentsLieAsPtxSays) {
  struct Lane {
    float d[4] = {};
    uint32_t a[4], b[2];
  } lanes[32];
  const auto a_of = [](int i, int k) { return static_cast<float>(i * 3 + k - 20); };
  const auto b_of = [](int k, int j) { return static_cast<float>(k * 2 - j * 5); };
  const auto two = [](float low, float high) {
    return to_bf16(low).bits | uint32_t{to_bf16(high).bits} << 16;
  };
  MultiplyAdd brought[32];
  for (int t = 0; t < 32; ++t) {
    const int g = t >> 2, c = (t & 3) * 2;
    Lane& lane = lanes[t];
    lane.a[0] = two(a_of(g, c), a_of(g, c + 1));              // a0, a1
    lane.a[1] = two(a_of(g + 8, c), a_of(g + 8, c + 1));      // a2, a3
    lane.a[2] = two(a_of(g, c + 8), a_of(g, c + 9));          // a4, a5
    lane.a[3] = two(a_of(g + 8, c + 8), a_of(g + 8, c + 9));  // a6, a7
    lane.b[0] = two(b_of(c, g), b_of(c + 1, g));              // b0, b1
    lane.b[1] = two(b_of(c + 8, g), b_of(c + 9, g));          // b2, b3
    brought[t] = {lane.d, lane.a, {lane.b[0], lane.b[1]}};
  }
  run("fragments", 1, 32, 16,
      [&] { wait_for_warp(multiply_add_all, &brought[here.thread], false, Place::current()); });
  for (int t = 0; t < 32; ++t) {
    const int g = t >> 2, c = (t & 3) * 2;
    for (int r = 0; r < 4; ++r) {  // c0, c1: row g; c2, c3: row g + 8
      const int i = g + (r >= 2 ? 8 : 0), j = c + (r & 1);
      float expected = 0;
      for (int k = 0; k < 16; ++k) expected += a_of(i, k) * b_of(k, j);
      EXPECT_EQ(lanes[t].d[r], expected) << "lane " << t << ", register " << r;
    }
  }
  take_report();
}

}  // namespace
}  // namespace lorikeet::emulation
