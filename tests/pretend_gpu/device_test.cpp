// The pretend device itself: it computes, and it notices what a GPU would suffer from.
#include <gmock/gmock.h>
#include <torch/torch.h>

#include "tests/pretend_gpu/touches.h"

namespace lorikeet::pretend_gpu {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const torch::Device kGpu(torch::kCUDA, 0);

/// What `work` has added.
std::vector<std::string> touched_by(const std::function<void()>& work) {
  const auto before = touches();
  work();
  std::vector<std::string> added;
  for (const auto& [what, count] : touches()) {
    const auto found = before.find(what);
    for (int64_t i = found == before.end() ? 0 : found->second; i < count; ++i)
      added.push_back(what);
  }
  return added;
}

TEST(PretendGpu, ComputesAndDifferentiatesAsTheCpu) {
  const auto loss = [](const torch::Tensor& x, const torch::Tensor& w) {
    return torch::softmax(torch::mm(x, w.t()), 1).square().sum();
  };
  const torch::Tensor x = torch::randn({5, 7}), w = torch::randn({3, 7});
  const torch::Tensor on_cpu = w.clone().requires_grad_(true);
  loss(x, on_cpu).backward();
  const torch::Tensor on_gpu = w.to(kGpu).requires_grad_(true);
  const torch::Tensor value = loss(x.to(kGpu), on_gpu);
  EXPECT_TRUE(value.is_cuda());
  EXPECT_THAT(touched_by([&] { value.backward(); }), IsEmpty());
  EXPECT_TRUE(torch::equal(on_gpu.grad().cpu(), on_cpu.grad()));
}

TEST(PretendGpu, NoticesWhatWaitsForTheDevice) {
  const torch::Tensor x = torch::ones({3}).to(kGpu), mask = x > 0;
  EXPECT_THAT(touched_by([&] { x.sum().item<float>(); }), ElementsAre("to the host: one number"));
  EXPECT_THAT(touched_by([&] { (void)(x.sum() > 1).is_nonzero(); }),
              ElementsAre("to the host: one number"));
  EXPECT_THAT(touched_by([&] { x.cpu(); }), ElementsAre("to the host: Float [3]"));
  EXPECT_THAT(touched_by([&] { x.nonzero(); }), ElementsAre("wait: aten::nonzero"));
  const torch::Tensor twice = torch::full({3}, 2, torch::kLong).to(kGpu);
  EXPECT_THAT(touched_by([&] { x.repeat_interleave(twice); }),
              ElementsAre("wait: aten::repeat_interleave"));
  EXPECT_THAT(touched_by([&] { x.repeat_interleave(twice, 0, /*output_size=*/6); }), IsEmpty());
  EXPECT_THAT(touched_by([&] { x.masked_select(mask); }), Not(IsEmpty()));
  EXPECT_THAT(touched_by([&] { x.index({mask}); }), Not(IsEmpty()));
  EXPECT_THAT(touched_by([&] { x.clone().index_put_({mask}, torch::zeros({}).to(kGpu)); }),
              Not(IsEmpty()));
  EXPECT_THAT(touched_by([&] { (void)x.equal(x); }), ElementsAre("wait: aten::equal"));
  EXPECT_THAT(touched_by([&] { torch::cuda::synchronize(); }), ElementsAre("wait: for the device"));
}

TEST(PretendGpu, NoticesCopiesThatWait) {
  const torch::Tensor x = torch::ones({3});
  EXPECT_THAT(touched_by([&] { x.to(kGpu); }), ElementsAre("from pageable memory: Float [3]"));
  EXPECT_THAT(touched_by([&] { x.to(kGpu, /*non_blocking=*/true); }),
              ElementsAre("from pageable memory: Float [3]"));
  const torch::Tensor pinned = x.pin_memory();
  ASSERT_TRUE(pinned.is_pinned());
  EXPECT_THAT(touched_by([&] { pinned.to(kGpu); }), ElementsAre("wait: for a copy of Float [3]"));
  EXPECT_THAT(touched_by([&] { pinned.to(kGpu, /*non_blocking=*/true); }), IsEmpty());
}

TEST(PretendGpu, RefusesACpuTensorAmongTheDevices) {
  const torch::Tensor x = torch::ones({3}), y = x.to(kGpu);
  EXPECT_THROW(torch::maximum(y, x), c10::Error);
  EXPECT_THAT(touched_by([&] { y* torch::tensor(2.0f); }), IsEmpty()) << "a number is a number";
}

}  // namespace
}  // namespace lorikeet::pretend_gpu
