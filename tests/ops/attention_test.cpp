// Causal attention through the micro-kernels against LibTorch's in fp64.
#include "lorikeet/ops/attention.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <string>

#include "tests/ops/merged_testing.h"

namespace lorikeet::ops {
namespace {

using torch::Tensor;

struct Case {
  int64_t B, A, K, L, H;
};

/// q, k, v as the model has them: [B, heads, L, H], in memory [B, L, heads, H].
std::vector<Tensor> make_inputs(const Case& c, torch::ScalarType dtype) {
  std::vector<Tensor> all;
  for (const int64_t heads : {c.A, c.K, c.K}) {
    all.push_back(torch::randn({c.B, c.L, heads, c.H}).to(dtype).transpose(1, 2).requires_grad_());
  }
  return all;
}

std::vector<Tensor> requiring_grad(const std::vector<Tensor>& x) {
  std::vector<Tensor> leaves;
  for (const Tensor& t : x) leaves.push_back(t.detach().requires_grad_());
  return leaves;
}

bool is_tiled(const Tensor& y) {
  return y.grad_fn() != nullptr && y.grad_fn()->name().find("CausalAttention") != std::string::npos;
}

/// y and the gradients of those of q, k, v that require one.
std::vector<Tensor> results(const std::vector<Tensor>& x, const Tensor& dy, bool reference,
                            bool tiled) {
  const Tensor y = causal_attention(x[0], x[1], x[2], reference);
  EXPECT_EQ(is_tiled(y), tiled);
  std::vector<Tensor> all{y.detach()}, inputs;
  for (const Tensor& t : x) {
    if (t.requires_grad()) inputs.push_back(t);
  }
  for (const Tensor& g : torch::autograd::grad({y}, inputs, {dy.to(y.scalar_type())})) {
    all.push_back(g);
  }
  return all;
}
std::vector<Tensor> tiled_results(const std::vector<Tensor>& x, const Tensor& dy) {
  return results(x, dy, /*reference=*/false, /*tiled=*/true);
}

std::vector<Tensor> in_fp64(const std::vector<Tensor>& x) {
  std::vector<Tensor> wide;
  for (const Tensor& t : x) {
    wide.push_back(t.detach().to(torch::kDouble).requires_grad_(t.requires_grad()));
  }
  return wide;
}

// fp32: sums of up to L products, each rounded, and an exponential of 1e-7.
// bf16: y, weights and gradients of scores are rounded to 8 bits.
double tolerance_of(torch::ScalarType dtype) { return dtype == torch::kFloat ? 3e-6 : 1e-2; }

/// Whether the micro-kernels take it at the present level: bf16 also where it is widened for them.
bool is_taken(torch::ScalarType dtype) {
  const cpu::Level& level = cpu::level();
  if (dtype == torch::kFloat) return level.fast_product;
  return level.bf16_product || cpu::beats_library(dtype);
}

/// Levels that this processor has and whose products are the micro-kernels', or also the others.
std::vector<std::string> levels(torch::ScalarType dtype, bool all) {
  std::vector<std::string> names;
  for (const char* name : {"avx512bf16", "avx512", "avx2", "portable", "portable_bf16"}) {
    if (!cpu::has_level(name)) continue;
    const AtLevel at(name);
    if (all || is_taken(dtype)) names.emplace_back(name);
  }
  return names;
}

void expect_near_reference(const std::vector<Tensor>& x, const Tensor& dy) {
  const auto dtype = x[0].scalar_type();
  const auto exact = results(in_fp64(x), dy.to(torch::kDouble), /*reference=*/true, false);
  const auto tiled = levels(dtype, /*all=*/false);
  for (const std::string& level : levels(dtype, /*all=*/true)) {
    const AtLevel at(level);
    const bool is_tiled = std::count(tiled.begin(), tiled.end(), level) > 0;
    const auto ours = results(x, dy, /*reference=*/false, is_tiled);
    ASSERT_EQ(ours.size(), exact.size());
    for (size_t i = 0; i < ours.size(); ++i) {
      EXPECT_EQ(ours[i].sizes(), exact[i].sizes());
      EXPECT_LT(relative_error(ours[i], exact[i]), tolerance_of(dtype)) << level << ' ' << i;
    }
  }
}

Tensor random_like(const Tensor& t) { return torch::randn(t.sizes()).to(t.scalar_type()); }

class TiledAttention : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override { torch::manual_seed(3); }
};

TEST_P(TiledAttention, Fp32EqualsTheReferenceInFp64) {
  const auto x = make_inputs(GetParam(), torch::kFloat);
  expect_near_reference(x, random_like(x[0]));
}
TEST_P(TiledAttention, Bf16EqualsTheReferenceInFp64UpToItsRounding) {
  const auto x = make_inputs(GetParam(), torch::kBFloat16);
  expect_near_reference(x, random_like(x[0]));
}

/// What the micro-kernels take at the best level that this processor has.
std::vector<torch::ScalarType> tiled_dtypes() {
  std::vector<torch::ScalarType> dtypes;
  for (const auto dtype : {torch::kFloat, torch::kBFloat16}) {
    if (is_taken(dtype)) dtypes.push_back(dtype);
  }
  return dtypes;
}

TEST_P(TiledAttention, GivesTheSameBitsForAnyNumberOfThreads) {
  const int threads = torch::get_num_threads();
  for (const auto dtype : tiled_dtypes()) {
    const auto x = make_inputs(GetParam(), dtype);
    const Tensor dy = torch::randn(x[0].sizes());
    torch::set_num_threads(1);
    const auto one = tiled_results(x, dy);
    torch::set_num_threads(3);
    const auto three = tiled_results(x, dy);
    for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(one[i].equal(three[i])) << "yqkv"[i];
  }
  torch::set_num_threads(threads);
}

INSTANTIATE_TEST_SUITE_P(Shapes, TiledAttention,
                         ::testing::Values(Case{1, 1, 1, 1, 16}, Case{2, 2, 2, 17, 16},
                                           Case{1, 4, 2, 64, 64}, Case{2, 2, 1, 129, 32},
                                           Case{1, 2, 2, 300, 64}, Case{1, 1, 1, 520, 80},
                                           Case{1, 2, 1, 79, 34}));

/// Other memory than the model's, in every dtype. Each test gives views of fresh random numbers.
class TiledAttentionMemory : public ::testing::TestWithParam<torch::ScalarType> {
 protected:
  void SetUp() override { torch::manual_seed(4); }
  static Tensor random(at::IntArrayRef sizes) { return torch::randn(sizes).to(GetParam()); }
  static void expect_near(const std::vector<Tensor>& views) {
    const auto x = requiring_grad(views);
    expect_near_reference(x, random_like(x[0]));
  }
};

TEST_P(TiledAttentionMemory, MayBeContiguous) {
  expect_near({random({2, 4, 77, 16}), random({2, 2, 77, 16}), random({2, 2, 77, 16})});
}

// As the model cuts a row into documents.
TEST_P(TiledAttentionMemory, MayBeSpansOfARow) {
  std::vector<std::vector<Tensor>> spans(4);
  for (const int64_t heads : {4, 2, 2}) {
    const Tensor row = random({211, heads, 16}).transpose(0, 1);
    const auto parts = row.split_with_sizes({3, 131, 1, 76}, 1);
    for (size_t i = 0; i < parts.size(); ++i) spans[i].push_back(parts[i].unsqueeze(0));
  }
  for (const auto& views : spans) expect_near(views);
}

TEST_P(TiledAttentionMemory, MayBeginAnywhere) {
  const auto odd = [](at::IntArrayRef sizes) {
    const Tensor view = random({c10::multiply_integers(sizes) + 1}).slice(0, 1).view(sizes);
    EXPECT_EQ(view.storage_offset() % 2, 1);
    return view;
  };
  expect_near({odd({1, 2, 33, 16}), odd({1, 1, 33, 16}), odd({1, 1, 33, 16})});
}

TEST_P(TiledAttentionMemory, MayBeExpandedOverTokensHeadsAndFeatures) {
  expect_near({random({1, 2, 1, 16}).expand({1, 2, 150, 16}), random({1, 2, 150, 16}),
               random({1, 2, 150, 1}).expand({1, 2, 150, 16})});
  expect_near({random({1, 1, 150, 16}).expand({3, 2, 150, 16}), random({3, 2, 150, 16}),
               random({1, 1, 150, 16}).expand({3, 2, 150, 16})});
}

// Where all keys are equal, the gradient of q is zero: not an error's measure.
TEST_P(TiledAttentionMemory, TokensMayShareTheirKeys) {
  auto x = requiring_grad({random({1, 1, 150, 16}), random({1, 1, 1, 16}).expand({1, 1, 150, 16}),
                           random({1, 1, 150, 16})});
  x[0].requires_grad_(false);
  expect_near_reference(x, random_like(x[0]));
}

TEST_P(TiledAttentionMemory, GradientMayBeOneNumber) {
  const auto x = make_inputs({1, 2, 1, 70, 16}, GetParam());
  expect_near_reference(x, torch::ones({}).to(GetParam()).expand(x[0].sizes()));
}

TEST_P(TiledAttentionMemory, OnlyOneInputMayRequireAGradient) {
  for (size_t i = 0; i < 3; ++i) {
    auto x = make_inputs({1, 2, 1, 70, 16}, GetParam());
    for (size_t other = 0; other < 3; ++other) x[other].requires_grad_(other == i);
    expect_near_reference(x, random_like(x[0]));
  }
}

INSTANTIATE_TEST_SUITE_P(Dtypes, TiledAttentionMemory,
                         ::testing::Values(torch::kFloat, torch::kBFloat16));

TEST(TiledAttentionHeads, OfOddSizeAreTakenInFp32AndLeftToTheLibraryByBf16Products) {
  torch::manual_seed(5);
  const auto x = make_inputs({1, 4, 2, 83, 15}, torch::kFloat);
  expect_near_reference(x, random_like(x[0]));
  const auto half = make_inputs({1, 4, 2, 83, 15}, torch::kBFloat16);
  EXPECT_EQ(is_tiled(causal_attention(half[0], half[1], half[2])),
            cpu::beats_library(torch::kBFloat16));
}

TEST(TiledAttentionMask, LaterTokensChangeNothingToTheLastBit) {
  torch::manual_seed(1);
  for (const auto dtype : tiled_dtypes()) {
    auto x = make_inputs({1, 2, 2, 200, 32}, dtype);
    EXPECT_TRUE(is_tiled(causal_attention(x[0], x[1], x[2])));
    const torch::NoGradGuard no_grad;
    const Tensor before = causal_attention(x[0], x[1], x[2]);
    for (Tensor& t : x) t.slice(2, 131).fill_(1e4);
    const Tensor after = causal_attention(x[0], x[1], x[2]);
    EXPECT_TRUE(before.slice(2, 0, 131).equal(after.slice(2, 0, 131)));
    EXPECT_TRUE(after.isfinite().all().item<bool>());
  }
}

TEST(TiledAttentionMask, LargeScoresStayFinite) {
  for (const auto dtype : tiled_dtypes()) {
    const auto x = make_inputs({1, 1, 1, 100, 16}, dtype);
    const auto large = std::vector<Tensor>{(x[0] * 300).detach().requires_grad_(), x[1], x[2]};
    for (const Tensor& t : tiled_results(large, torch::ones(x[0].sizes()))) {
      EXPECT_TRUE(t.isfinite().all().item<bool>());
    }
  }
}

// Through y alone, and with a second path around the operator, whose graph would hide a lost first.
TEST(TiledAttentionGraph, DoubleBackwardIsRefusedRatherThanWrong) {
  if (!cpu::level().fast_product) GTEST_SKIP() << "LibTorch's attention";
  const auto x = make_inputs({1, 2, 1, 20, 16}, torch::kFloat);
  const auto first_gradient = [&](const Tensor& loss) {
    return torch::autograd::grad({loss}, {x[0]}, {}, std::nullopt, /*create_graph=*/true)[0];
  };
  const auto y = [&] { return causal_attention(x[0], x[1], x[2]); };
  EXPECT_THROW(first_gradient(y().square().sum()).sum().backward(), c10::Error);
  EXPECT_THROW(first_gradient((y() + x[0].square()).sum()).sum().backward(), c10::Error);
}

}  // namespace
}  // namespace lorikeet::ops
