// The merged feed-forward through batched products, which CUDA tensors take where our kernels
// don't: the same code on the CPU, against the reference in fp64.
//
// N tokens, D model, F feed-forward width, E experts, G segments.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "lorikeet/ops/workspace.h"
#include "src/ops/cuda/batched.h"
#include "src/ops/merged_reference.h"
#include "tests/ops/merged_testing.h"
#include "tests/support/tensor_memory.h"

namespace lorikeet::ops {
namespace {

using torch::Tensor;

struct Case {
  std::vector<int64_t> lengths;
  int64_t D, F, E;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {{32, 32, 32, 32}, 64, 96, 8},              // one batch
      {{5, 0, 1, 70, 16, 16, 0}, 20, 13, 3},      // ragged, empty, odd widths
      {{9}, 7, 5, 1},                             // one segment
      {std::vector<int64_t>(300, 2), 12, 8, 70},  // more segments than a slab, many experts
      {{0, 0, 3}, 130, 300, 2},                   // columns beyond one tile
  };
  return all;
}

struct Types {
  torch::ScalarType x, experts;
  double tolerance;
};

/// fp32: sums of some hundred terms. bf16: merged weights, h, da, db, the saved products, dh and
/// segment gradients are rounded once each.
const std::vector<Types>& types() {
  static const std::vector<Types> all = {{torch::kDouble, torch::kDouble, 1e-13},
                                         {torch::kFloat, torch::kFloat, 2e-6},
                                         {torch::kBFloat16, torch::kBFloat16, 1.2e-2},
                                         {torch::kBFloat16, torch::kFloat, 1.2e-2}};
  return all;
}

struct Arguments {
  Arguments(const Case& c, const Types& type) : offsets(offsets_of(c.lengths)) {
    torch::manual_seed(7);
    const auto G = static_cast<int64_t>(c.lengths.size()), N = offsets.back();
    const auto random = [](std::vector<int64_t> sizes, int64_t fan_in, torch::ScalarType of) {
      return (torch::randn(sizes, torch::kDouble) / std::sqrt(static_cast<double>(fan_in))).to(of);
    };
    const auto routing = type.x == torch::kDouble ? torch::kDouble : torch::kFloat;
    tensors = {random({N, c.D}, 1, type.x), torch::softmax(random({G, c.E}, 1, routing), -1),
               random({c.E, c.F, c.D}, c.D, type.experts),
               random({c.E, c.F, c.D}, c.D, type.experts),
               random({c.E, c.D, c.F}, c.F, type.experts)};
    dy = random({N, c.D}, 1, type.x);
  }
  std::vector<int64_t> offsets;
  std::vector<Tensor> tensors;  // x, routing, gate, up, down
  Tensor dy;
};

using Results = std::vector<Tensor>;

constexpr std::array<bool, 5> kAll = {true, true, true, true, true};

/// y and the gradients.
Results batched(const Arguments& a, const cuda::Gpu& gpu,
                const std::array<bool, 5>& needed = kAll) {
  const auto& t = a.tensors;
  const auto [y, saved_a, saved_b] =
      cuda::batched_forward(gpu, t[0], a.offsets, t[1], t[2], t[3], t[4], /*save=*/true);
  const auto gradients = cuda::batched_backward(gpu, a.dy, t[0], a.offsets, t[1], t[2], t[3], t[4],
                                                saved_a, saved_b, needed);
  Results all{y};
  all.insert(all.end(), gradients.begin(), gradients.end());
  return all;
}

/// A small L2 makes many slabs, a large one a single one.
Results batched(const Arguments& a, int64_t l2_bytes, const std::array<bool, 5>& needed = kAll) {
  return batched(a, cuda::Gpu{"small", 80, 2, l2_bytes, 1e9, 1e6, 1e9}, needed);
}

Results reference(const Arguments& a) {
  std::vector<Tensor> t;
  for (const Tensor& tensor : a.tensors) t.push_back(tensor.to(torch::kDouble));
  const auto [dx, dr, dg, du, dd] = merged_ffn_backward_reference(
      a.dy.to(torch::kDouble), t[0], a.offsets, t[1], t[2], t[3], t[4]);
  return {merged_ffn_reference(t[0], a.offsets, t[1], t[2], t[3], t[4]), dx, dr, dg, du, dd};
}

class BatchedMergedFfn : public testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Shapes, BatchedMergedFfn, testing::ValuesIn(cases()));

TEST_P(BatchedMergedFfn, EqualsTheReferenceInEveryDtypeAndHoweverItIsCut) {
  const char* names[] = {"y", "dx", "drouting", "dgate", "dup", "ddown"};
  for (const Types& type : types()) {
    const Arguments a(GetParam(), type);
    const Results expected = reference(a);
    for (const int64_t l2_bytes : {int64_t{128} << 10, int64_t{1} << 30}) {
      const Results actual = batched(a, l2_bytes);
      for (size_t i = 0; i < actual.size(); ++i) {
        EXPECT_EQ(actual[i].sizes(), expected[i].sizes()) << names[i];
        EXPECT_EQ(actual[i].scalar_type(), i < 2 ? type.x : a.tensors[i - 1].scalar_type());
        EXPECT_LT(relative_error(actual[i], expected[i]), type.tolerance)
            << names[i] << " in " << type.x << " with experts in " << type.experts << ", L2 of "
            << l2_bytes;
      }
    }
  }
}

TEST(BatchedMergedFfnSlabs, AreManyWithALittleL2) {
  const Arguments a(cases()[0], types()[1]);
  const cuda::FfnShape shape{64, 96, 8, a.offsets, true};
  const auto segments = [&](int64_t l2_bytes) {
    const cuda::Gpu gpu{"small", 80, 2, l2_bytes, 1e9, 1e6, 1e9};
    return plan_forward(gpu, shape).gate_up.elements(64);
  };
  EXPECT_LT(segments(128 << 10), segments(int64_t{1} << 30));
}

// On an A100, by a count of what is allocated; D keeps bf16 from the kernels. A third of the bound
// may be what another shape would take.
TEST(BatchedMergedFfnWorkspace, IsWhatPlansSay) {
  const std::vector<Case> real = {{std::vector<int64_t>(16, 32), 124, 556, 4},
                                  {std::vector<int64_t>(4, 128), 124, 556, 12},
                                  {std::vector<int64_t>(96, 2), 124, 556, 2}};
  const cuda::Gpu& gpu = cuda::known_gpus().front();
  for (const Types& type : types()) {
    if (type.x == torch::kDouble) continue;  // not a GPU's
    for (const Case& c : real) {
      const Arguments a(c, type);
      const auto& t = a.tensors;
      const TensorMemory before;
      const auto [y, saved_a, saved_b] =
          cuda::batched_forward(gpu, t[0], a.offsets, t[1], t[2], t[3], t[4], /*save=*/true);
      const int64_t forward = before.peak_bytes() - before.bytes();
      const TensorMemory again;
      const auto gradients = cuda::batched_backward(gpu, a.dy, t[0], a.offsets, t[1], t[2], t[3],
                                                    t[4], saved_a, saved_b, kAll);
      const int64_t backward = again.peak_bytes() - again.bytes();
      const int64_t planned =
          slab_workspace_bytes(a.offsets, c.D, c.F, c.E, type.x == torch::kFloat ? 4 : 2,
                               type.experts == torch::kFloat ? 4 : 2);
      const int64_t taken = std::max(forward, backward);
      const auto what = fmt::format("{} experts: {} and {} of {}", c.E, forward, backward, planned);
      EXPECT_LE(taken, planned) << what << " in " << type.x;
      EXPECT_GE(taken, planned * 2 / 3) << what << " in " << type.x;
    }
  }
}

TEST(BatchedMergedFfnBits, AreTheSameAgain) {
  const Arguments a(cases()[1], types()[3]);
  const Results first = batched(a, 128 << 10), again = batched(a, 128 << 10);
  for (size_t i = 0; i < first.size(); ++i) EXPECT_TRUE(torch::equal(first[i], again[i])) << i;
}

TEST(BatchedMergedFfnNeeds, OnlyWhatIsAskedForIsComputed) {
  const Arguments a(cases()[1], types()[1]);
  const Results all = batched(a, 128 << 10);
  for (size_t asked = 0; asked < 5; ++asked) {
    std::array<bool, 5> needed{};
    needed[asked] = true;
    const Results one = batched(a, 128 << 10, needed);
    for (size_t i = 0; i < 5; ++i) EXPECT_EQ(one[i + 1].defined(), i == asked) << i;
    EXPECT_TRUE(torch::equal(one[asked + 1], all[asked + 1])) << asked;
  }
}

TEST(BatchedMergedFfnSaving, WhatIsNotSavedDoesNotChangeY) {
  const Arguments a(cases()[4], types()[3]);
  const auto& t = a.tensors;
  const cuda::Gpu gpu{"small", 80, 2, 128 << 10, 1e9, 1e6, 1e9};
  const auto [y, saved_a, saved_b] =
      cuda::batched_forward(gpu, t[0], a.offsets, t[1], t[2], t[3], t[4], /*save=*/false);
  EXPECT_EQ(saved_a.numel() + saved_b.numel(), 0);
  EXPECT_TRUE(torch::equal(y, batched(a, 128 << 10)[0]));
}

}  // namespace
}  // namespace lorikeet::ops
