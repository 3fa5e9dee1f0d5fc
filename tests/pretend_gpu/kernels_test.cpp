// Which way operators take on a device, by what the library says that it is.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "lorikeet/ops/merged_ffn.h"
#include "lorikeet/ops/rope.h"
#include "src/ops/cuda/hook.h"

namespace lorikeet::ops::cuda {
namespace {

using torch::Tensor;

/// A GPU before sm_80, and beside it one that has kernels.
Gpu mixed(int device) { return gpu_of(device == 1 ? 80 : 75, {40, 4 << 20, 64 << 10, 64 << 10}); }

/// The kernels that are not there: they turn nothing.
std::tuple<Tensor, Tensor> unturned(const Tensor& q, const Tensor& k, const Tensor&, const Tensor&,
                                    bool) {
  return {q.clone(), k.clone()};
}
Tensor no_losses(const Tensor&, const Tensor& targets, bool) { return at::zeros_like(targets); }

class PretendGpuKernels : public testing::Test {
 protected:
  PretendGpuKernels() {
    set_merged_ffn({mixed, nullptr, nullptr});
    set_row_kernels({unturned, no_losses, nullptr, nullptr});
  }
  static torch::Device gpu(int index) {
    return {torch::kCUDA, static_cast<torch::DeviceIndex>(index)};
  }
};

TEST_F(PretendGpuKernels, AreThoseOfTheTensorsDeviceWhicheverIsCurrent) {
  for (const int index : {0, 1}) {
    const bool has_kernels = index == 1;
    const Tensor x = torch::ones({4, 16}).to(torch::kBFloat16).to(gpu(index));
    const Tensor gate = torch::ones({2, 32, 16}).to(gpu(index));
    EXPECT_EQ(has_row_kernels(x, 16), has_kernels);
    EXPECT_EQ(has_merged_ffn_kernels(x, {0, 4}, gate), has_kernels);
    EXPECT_EQ(gpu_at(x.device()).kernels != KernelSet::none, has_kernels);
  }
}

TEST_F(PretendGpuKernels, AreNotLaunchedBeforeSm80) {
  const Tensor q = torch::randn({1, 3, 2, 16});
  const RopeTable table = make_rope_table(torch::arange(3), 16, 1e4);
  const Tensor expected = apply_rope(q, q, table).first;
  const auto on = [&](int index) {
    const RopeTable there{table.cos.to(gpu(index)), table.sin.to(gpu(index))};
    return apply_rope(q.to(gpu(index)), q.to(gpu(index)), there).first.cpu();
  };
  EXPECT_TRUE(torch::allclose(on(0), expected, 1e-5, 1e-6));
  EXPECT_TRUE(torch::equal(on(1), q)) << "the second GPU's kernels are those above";
}

}  // namespace
}  // namespace lorikeet::ops::cuda
