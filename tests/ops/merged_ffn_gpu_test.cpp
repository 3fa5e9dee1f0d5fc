// lorikeet::merged_ffn on a real GPU, where there is one: its kernels against the reference in fp64
// on the CPU. Without one the same kernels are proved in tests/emulation/.
//
// N tokens, D model, F feed-forward width, E experts, G segments.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <optional>

#include "lorikeet/core/cuda_backend.h"
#include "lorikeet/ops/merged_ffn.h"
#include "lorikeet/ops/workspace.h"

namespace lorikeet::ops {
namespace {

using torch::Tensor;

struct Case {
  std::vector<int64_t> lengths;
  int64_t D, F, E;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {{256, 256, 256, 256}, 512, 1376, 8},        // a small model's layer
      {{5, 0, 1, 70, 16, 0, 300}, 104, 72, 3},     // ragged and empty segments, odd widths
      {std::vector<int64_t>(70, 40), 64, 96, 32},  // more segments than routing_gradients holds
      {{1}, 8, 8, 64},
      {{64}, 60, 100, 4},  // widths that go through batched products
  };
  return all;
}

class GpuMergedFfn : public testing::Test {
 protected:
  void SetUp() override {
    std::string why_not;
    if (!load_cuda_backend(&why_not)) GTEST_SKIP() << why_not;
  }
};

struct Arguments {
  std::vector<int64_t> offsets;
  std::vector<Tensor> tensors;  // x, routing, gate, up, down
  Tensor dy;
};

Arguments make_arguments(const Case& c, torch::ScalarType experts) {
  torch::manual_seed(3);
  Arguments a;
  a.offsets.assign(c.lengths.size() + 1, 0);
  std::partial_sum(c.lengths.begin(), c.lengths.end(), a.offsets.begin() + 1);
  const auto random = [](std::vector<int64_t> sizes, double scale, torch::ScalarType type) {
    return (torch::randn(sizes, torch::kDouble) * scale).to(type);
  };
  const double scale = 1 / std::sqrt(static_cast<double>(c.D));
  const auto G = static_cast<int64_t>(c.lengths.size());
  a.tensors = {random({a.offsets.back(), c.D}, 1, torch::kBFloat16),
               torch::softmax(torch::randn({G, c.E}), -1), random({c.E, c.F, c.D}, scale, experts),
               random({c.E, c.F, c.D}, scale, experts), random({c.E, c.D, c.F}, scale, experts)};
  a.dy = random({a.offsets.back(), c.D}, 1, torch::kBFloat16);
  return a;
}

/// y and the five gradients, on the CPU. @param type of all but integers; undefined: as they are
/// @param lay  gives a tensor's numbers in another place of memory or order
std::vector<Tensor> results(
    const Arguments& a, torch::Device device, std::optional<torch::ScalarType> type,
    const std::function<Tensor(const Tensor&)>& lay = [](const Tensor& t) { return t; }) {
  std::vector<Tensor> leaves;
  for (const Tensor& t : a.tensors) {
    leaves.push_back(lay(t.to(device, type.value_or(t.scalar_type()))).requires_grad_());
  }
  const Tensor y = merged_ffn(leaves[0], a.offsets, leaves[1], leaves[2], leaves[3], leaves[4]);
  const auto gradients =
      torch::autograd::grad({y}, leaves, {lay(a.dy.to(device, y.scalar_type()))});
  std::vector<Tensor> all{y.detach().cpu()};
  for (const Tensor& g : gradients) all.push_back(g.cpu());
  return all;
}

double relative_error(const Tensor& actual, const Tensor& expected) {
  const double scale = expected.norm().item<double>();
  const double error = (actual.to(torch::kDouble) - expected).norm().item<double>();
  return scale == 0 ? error : error / scale;
}

// bf16 rounds merged weights, h, da, db, the saved products and segment gradients once each.
TEST_F(GpuMergedFfn, EqualsTheReferenceInFp64UpToTheRoundingOfBf16) {
  for (const Case& c : cases()) {
    for (const auto experts : {torch::kBFloat16, torch::kFloat}) {
      const Arguments a = make_arguments(c, experts);
      const auto actual = results(a, torch::kCUDA, {});
      const auto expected = results(a, torch::kCPU, torch::kDouble);
      for (size_t i = 0; i < actual.size(); ++i) {
        EXPECT_LT(relative_error(actual[i], expected[i]), 1.2e-2)
            << i << ", D " << c.D << " F " << c.F << " E " << c.E << ", experts " << experts;
      }
    }
  }
}

TEST_F(GpuMergedFfn, EqualsItThroughBatchedProductsToo) {
  const WithBatchedProducts batched;
  for (const Case& c : cases()) {
    const Arguments a = make_arguments(c, torch::kFloat);
    const auto actual = results(a, torch::kCUDA, {});
    const auto expected = results(a, torch::kCPU, torch::kDouble);
    for (size_t i = 0; i < actual.size(); ++i) {
      EXPECT_LT(relative_error(actual[i], expected[i]), 1.2e-2) << i << ", D " << c.D;
    }
  }
}

// Sums of some thousand fp32 terms, which cuBLAS may take in any order but not in TF32.
TEST_F(GpuMergedFfn, Fp32GoesThroughBatchedProducts) {
  for (const Case& c : cases()) {
    const Arguments a = make_arguments(c, torch::kFloat);
    const auto actual = results(a, torch::kCUDA, torch::kFloat);
    const auto expected = results(a, torch::kCPU, torch::kDouble);
    for (size_t i = 0; i < actual.size(); ++i) {
      EXPECT_LT(relative_error(actual[i], expected[i]), 1e-5) << i << ", D " << c.D;
    }
  }
}

TEST_F(GpuMergedFfn, TakesTheWorkspaceThatPlansSay) {
  for (const Case& c : cases()) {
    const Arguments a = make_arguments(c, torch::kFloat);
    for (const bool is_bf16 : {true, false}) {
      results(a, torch::kCUDA, is_bf16 ? std::nullopt : std::optional(torch::kFloat));
      EXPECT_EQ(std::max(tiled_workspace_bytes(false), tiled_workspace_bytes(true)),
                slab_workspace_bytes(a.offsets, c.D, c.F, c.E, is_bf16 ? 2 : 4, 4));
    }
  }
}

TEST_F(GpuMergedFfn, GivesTheSameBitsRunAfterRun) {
  const Arguments a = make_arguments(cases()[1], torch::kFloat);
  const auto first = results(a, torch::kCUDA, {});
  for (int run = 0; run < 5; ++run) {
    const auto again = results(a, torch::kCUDA, {});
    for (size_t i = 0; i < first.size(); ++i) EXPECT_TRUE(torch::equal(first[i], again[i])) << i;
  }
}

// One element into larger memory: not where 16 bytes begin. Transposed: its columns are in order.
TEST_F(GpuMergedFfn, GivesTheSameBitsHoweverItsInputsLie) {
  const auto shifted = [](const Tensor& t) {
    const Tensor memory = torch::empty({t.numel() + 1}, t.options());
    return memory.narrow(0, 1, t.numel()).view(t.sizes()).copy_(t);
  };
  const auto turned = [](const Tensor& t) {
    return t.transpose(-1, -2).contiguous().transpose(-1, -2);
  };
  for (const auto experts : {torch::kBFloat16, torch::kFloat}) {
    const Arguments a = make_arguments(cases()[1], experts);
    const auto expected = results(a, torch::kCUDA, {});
    for (const auto& lay : {std::function<Tensor(const Tensor&)>(shifted), {turned}}) {
      const auto actual = results(a, torch::kCUDA, {}, lay);
      for (size_t i = 0; i < actual.size(); ++i) {
        EXPECT_TRUE(torch::equal(actual[i], expected[i])) << i << ", experts " << experts;
      }
    }
  }
}

TEST_F(GpuMergedFfn, RunsOnItsTensorsDeviceWhicheverIsCurrent) {
  if (torch::cuda::device_count() < 2) GTEST_SKIP() << "one GPU";
  const Arguments a = make_arguments(cases()[1], torch::kFloat);
  const auto expected = results(a, torch::kCPU, torch::kDouble);
  const auto actual = results(a, torch::Device(torch::kCUDA, 1), {});
  for (size_t i = 0; i < actual.size(); ++i) {
    EXPECT_LT(relative_error(actual[i], expected[i]), 1.2e-2) << i;
  }
}

TEST_F(GpuMergedFfn, TheReferenceCanBeAskedFor) {
  const Arguments a = make_arguments(cases()[0], torch::kFloat);
  std::vector<Tensor> t;
  for (const Tensor& each : a.tensors) t.push_back(each.to(torch::kCUDA));
  const Tensor ours = merged_ffn(t[0], a.offsets, t[1], t[2], t[3], t[4]);
  const Tensor reference = merged_ffn(t[0], a.offsets, t[1], t[2], t[3], t[4], true);
  EXPECT_LT(relative_error(ours.cpu(), reference.cpu().to(torch::kDouble)), 1.2e-2);
}

}  // namespace
}  // namespace lorikeet::ops
