// The kernels of RMSNorm, run by the emulator, against their formulas in fp64.
//
// R rows, D numbers in each.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <limits>
#include <string>
#include <vector>

#include "src/ops/cuda/launchers.h"
#include "src/ops/cuda/rows.h"
#include "tests/emulation/row_checks.h"

namespace lorikeet::emulation {
namespace {

using namespace ops::cuda;
using torch::Tensor;

constexpr float kEps = 1e-5f;

/// fp32: a few roundings. bf16: the result is rounded once, to 2^-9.
double tolerance(torch::ScalarType type) { return type == torch::kFloat ? 2e-6 : 3e-3; }

/// Filled with NaN: what a kernel forgets to write shows.
Tensor unwritten(at::IntArrayRef sizes, torch::ScalarType type) {
  return torch::full(sizes, std::numeric_limits<double>::quiet_NaN(), type);
}

struct Norm {
  Norm(int64_t R, int64_t D, torch::ScalarType of) : type(of) {
    torch::manual_seed(3);
    x = torch::randn({R, D}, torch::kDouble).to(type);
    dy = torch::randn({R, D}, torch::kDouble).to(type);
    weight = torch::rand({D}) + 0.5;
    y = unwritten({R, D}, type);
    dx = unwritten({R, D}, type);
    rstd = unwritten({R}, torch::kFloat);
    dweight = unwritten({D}, torch::kFloat);
  }
  bool is_float() const { return type == torch::kFloat; }
  int width() const { return static_cast<int>(x.size(1)); }

  RmsNormArguments forward() const {
    return {x.data_ptr(), weight.data_ptr<float>(),
            y.data_ptr(), rstd.data_ptr<float>(),
            x.size(0),    width(),
            kEps};
  }
  RmsNormInputArguments input() const {
    return {dy.data_ptr(),
            x.data_ptr(),
            weight.data_ptr<float>(),
            rstd.data_ptr<float>(),
            dx.data_ptr(),
            x.size(0),
            width()};
  }
  RmsNormWeightArguments weights(const Tensor& partials) const {
    return {dy.data_ptr(),
            x.data_ptr(),
            rstd.data_ptr<float>(),
            partials.data_ptr<float>(),
            x.size(0),
            width(),
            static_cast<int>(partials.size(0))};
  }
  Tensor partials(int stripes) const { return unwritten({stripes, x.size(1)}, torch::kFloat); }
  void sum(const Tensor& partials) const {
    make_launcher(KernelSet::mma, nullptr)
        ->sum_partials({partials.data_ptr<float>(), static_cast<int>(partials.size(0)), width(),
                        dweight.data_ptr<float>()},
                       2);
  }
  void run(int blocks, int stripes) const {
    const Tensor p = partials(stripes);
    launch_rms_norm(forward(), is_float(), blocks, nullptr);
    launch_rms_norm_input(input(), is_float(), blocks, nullptr);
    launch_rms_norm_weight(weights(p), is_float(), blocks, nullptr);
    sum(p);
  }

  torch::ScalarType type;
  Tensor x, dy, weight, y, dx, rstd, dweight;
};

struct Shape {
  int64_t rows, width;
  int stripes;
};
class EmulatedRmsNorm : public testing::TestWithParam<Shape> {};
// Fewer columns than a warp's, whole rounds of it, a rest; stripes of no row and of several rounds.
INSTANTIATE_TEST_SUITE_P(Shapes, EmulatedRmsNorm,
                         testing::Values(Shape{1, 8, 1}, Shape{3, 256, 5}, Shape{41, 264, 2},
                                         Shape{9, 1032, 3}));

TEST_P(EmulatedRmsNorm, GivesTheNormAndItsGradientsInBothDtypes) {
  set_schedule({.seed = 4, .resident_blocks = 3});
  const auto [R, D, stripes] = GetParam();
  for (const auto type : {torch::kFloat, torch::kBFloat16}) {
    const Norm norm(R, D, type);
    norm.run(/*blocks=*/3, stripes);
    const Tensor x = norm.x.to(torch::kDouble).requires_grad_();
    const Tensor weight = norm.weight.to(torch::kDouble).requires_grad_();
    const Tensor rstd = torch::rsqrt(x.square().mean(-1) + static_cast<double>(kEps));
    const Tensor y = x * rstd.unsqueeze(-1) * weight;
    const auto gradients = torch::autograd::grad({y}, {x, weight}, {norm.dy.to(torch::kDouble)});
    EXPECT_LT(relative_error(norm.y, y), tolerance(type));
    EXPECT_LT(relative_error(norm.rstd, rstd), 1e-6);
    EXPECT_LT(relative_error(norm.dx, gradients[0]), tolerance(type));
    EXPECT_LT(relative_error(norm.dweight, gradients[1]), 2e-6) << "fp32 in bf16 too";
    const Report report = expect_no_faults();
    const Tensor p = norm.partials(stripes);
    expect_work(report.runs.at(0).counts, count_rms_norm(norm.forward(), norm.is_float(), 3).work);
    expect_work(report.runs.at(1).counts,
                count_rms_norm_input(norm.input(), norm.is_float(), 3).work);
    expect_work(report.runs.at(2).counts,
                count_rms_norm_weight(norm.weights(p), norm.is_float(), 3).work);
  }
}

#if defined(LORIKEET_INSTRUMENTED)
// One block with two stripes.
TEST(EmulatedRmsNormBarriers, AreAllNeeded) {
  const Norm norm(40, 8, torch::kBFloat16);
  launch_rms_norm(norm.forward(), false, 1, nullptr);
  const auto run = [&](const std::string& without) {
    set_schedule({.seed = 2, .without_barrier = without});
    take_report();
    launch_rms_norm_weight(norm.weights(norm.partials(2)), false, 1, nullptr);
    return take_report();
  };
  const auto barriers = run("").barriers;
  ASSERT_EQ(barriers.size(), 2u);
  for (const std::string& barrier : barriers) {
    EXPECT_TRUE(run(barrier).has(FaultKind::race)) << barrier;
  }
  set_schedule({});
}
#endif

TEST(EmulatedRmsNormSchedules, GiveTheSameBitsInAnyNumberOfBlocks) {
  std::vector<Tensor> first;
  for (unsigned seed = 1; seed <= 3; ++seed) {
    set_schedule({.seed = seed, .resident_blocks = static_cast<int>(seed)});
    const Norm norm(37, 272, torch::kFloat);
    norm.run(static_cast<int>(seed), /*stripes=*/4);
    const std::vector<Tensor> all = {norm.y, norm.rstd, norm.dx, norm.dweight};
    if (first.empty()) first = all;
    for (size_t i = 0; i < all.size(); ++i) EXPECT_TRUE(torch::equal(all[i], first[i])) << i;
  }
  EXPECT_EQ(take_report().num_faults, 0);
}

}  // namespace
}  // namespace lorikeet::emulation
