// RoPE, RMSNorm and the cross-entropy on a real GPU, where there is one, against the reference in
// fp64 on the CPU. Without one our kernels are proved in tests/emulation/.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <functional>

#include "lorikeet/core/cuda_backend.h"
#include "lorikeet/ops/cross_entropy.h"
#include "lorikeet/ops/rms_norm.h"
#include "lorikeet/ops/rope.h"
#include "tests/ops/merged_testing.h"

namespace lorikeet::ops {
namespace {

using torch::Tensor;
using Tensors = std::vector<Tensor>;

class GpuRows : public testing::Test {
 protected:
  void SetUp() override {
    std::string why_not;
    if (!load_cuda_backend(&why_not)) GTEST_SKIP() << why_not;
  }

  using Apply = std::function<Tensor(const Tensors&, bool reference)>;

  /// The result and the gradients. A result is rounded once in bf16, sums are fp32.
  static void compare(const Tensors& inputs, const Apply& apply) {
    for (const auto type : {torch::kFloat, torch::kBFloat16}) {
      const Tensors actual = run(inputs, apply, torch::kCUDA, type, type);
      const Tensors expected = run(inputs, apply, torch::kCPU, type, torch::kDouble);
      for (size_t i = 0; i < actual.size(); ++i) {
        EXPECT_LT(relative_error(actual[i].cpu(), expected[i]), type == torch::kFloat ? 1e-5 : 2e-2)
            << i << " in " << type;
      }
    }
  }

 private:
  static Tensors run(const Tensors& inputs, const Apply& apply, torch::Device device,
                     torch::ScalarType rounded, torch::ScalarType type) {
    torch::manual_seed(4);
    Tensors leaves;
    for (const Tensor& t : inputs)
      leaves.push_back(t.to(rounded).to(device, type).requires_grad_());
    const Tensor y = apply(leaves, type == torch::kDouble);
    const Tensor dy = torch::randn(y.sizes()).to(rounded).to(device, y.scalar_type());
    Tensors all = torch::autograd::grad({y}, leaves, {dy});
    all.push_back(y.detach());
    return all;
  }
};

TEST_F(GpuRows, RopeEqualsTheReference) {
  for (const int64_t H : {32, 64, 20}) {  // the last one through ATen
    compare({torch::randn({2, 33, 4, H}), torch::randn({2, 33, 2, H})}, [&](const Tensors& t,
                                                                            bool reference) {
      const Tensor positions =
          torch::arange(33, torch::TensorOptions(torch::kLong).device(t[0].device()));
      const auto [q, k] = apply_rope(t[0], t[1], make_rope_table(positions, H, 10000), reference);
      return torch::cat({q, k}, 2);
    });
  }
}

// A part of larger heads, and one element into larger memory: neither whole nor where 16 bytes
// begin.
TEST_F(GpuRows, RopeGivesTheSameBitsHoweverItsInputsLie) {
  for (const auto type : {torch::kFloat, torch::kBFloat16}) {
    const auto options = torch::TensorOptions(type).device(torch::kCUDA);
    const Tensor all = torch::randn({2, 33, 6, 32}, options);
    const auto table = make_rope_table(torch::arange(33, options.dtype(torch::kLong)), 32, 10000);
    const auto [q, k] =
        apply_rope(all.narrow(2, 0, 4).contiguous(), all.narrow(2, 4, 2).contiguous(), table);
    const auto shifted = [](const Tensor& t) {
      return torch::empty({t.numel() + 1}, t.options())
          .narrow(0, 1, t.numel())
          .view(t.sizes())
          .copy_(t);
    };
    const RopeTable shifted_table{shifted(table.cos), shifted(table.sin)};
    const auto [part_q, part_k] = apply_rope(all.narrow(2, 0, 4), all.narrow(2, 4, 2), table);
    const auto [moved_q, moved_k] =
        apply_rope(shifted(all.narrow(2, 0, 4)), shifted(all.narrow(2, 4, 2)), shifted_table);
    for (const Tensor& other : {part_q, moved_q}) EXPECT_TRUE(torch::equal(other, q)) << type;
    for (const Tensor& other : {part_k, moved_k}) EXPECT_TRUE(torch::equal(other, k)) << type;
  }
}

TEST_F(GpuRows, RunOnTheirTensorsDeviceWhicheverIsCurrent) {
  if (torch::cuda::device_count() < 2) GTEST_SKIP() << "one GPU";
  const Tensor hidden = torch::randn({300, 64}), weight = torch::randn({4104, 64}) / 8;
  const Tensor targets = torch::randint(4104, {300}, torch::kLong);
  const torch::Device second(torch::kCUDA, 1);
  const Tensor sum =
      linear_cross_entropy(hidden.to(second), weight.to(second), targets.to(second)).sum;
  EXPECT_NEAR(sum.item<double>() / linear_cross_entropy(hidden, weight, targets).sum.item<double>(),
              1, 1e-5);
}

TEST_F(GpuRows, RmsNormEqualsTheReference) {
  for (const int64_t D : {96, 1032, 100}) {       // the last one through LibTorch
    for (const bool is_master : {false, true}) {  // an fp32 weight beside any x
      compare({torch::randn({7, 10, D}), torch::randn({D})}, [&](const Tensors& t, bool reference) {
        const Tensor weight = is_master && !reference ? t[1].to(torch::kFloat) : t[1];
        return rms_norm(t[0], weight, 1e-5, reference);
      });
    }
  }
}

TEST_F(GpuRows, CrossEntropyEqualsTheReference) {
  for (const int64_t V : {4104, 100}) {  // the last one through ATen
    Tensor targets = torch::randint(V, {300}, torch::kLong);
    targets[7] = -100;
    compare({torch::randn({300, 64}), torch::randn({V, 64}) / 8}, [&](const Tensors& t, bool r) {
      return linear_cross_entropy(t[0], t[1], targets.to(t[0].device()), r).sum;
    });
  }
}

}  // namespace
}  // namespace lorikeet::ops
