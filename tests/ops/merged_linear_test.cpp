// N tokens, I inputs, O outputs, E experts, G segments.
#include "lorikeet/ops/merged_linear.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/ops/merged_testing.h"

namespace lorikeet::ops {
namespace {

using torch::Tensor;

struct Arguments {
  std::vector<int64_t> offsets;
  std::vector<Tensor> tensors;  // x, routing, weight
};

struct Case {
  std::vector<int64_t> lengths;
  int64_t I, O, E;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {{64, 64}, 64, 64, 1},                      // whole panels and blocks
      {{5, 0, 1, 70, 16, 0}, 34, 50, 3},          // empty, short and odd segments, odd blocks
      {{300}, 130, 66, 2},                        // a segment of two strips, the second short
      {std::vector<int64_t>(19, 7), 48, 40, 32},  // more segments than a chunk holds
      {std::vector<int64_t>(11, 9), 72, 56, 8},   // eight merged together, then three
      {{9, 40}, 31, 45, 8},                       // widths without pairs
      {{20, 12}, 800, 900, 3},                    // several outer blocks of either width
      {{1}, 1, 1, 1},
  };
  return all;
}

Arguments make_arguments(const Case& c, torch::ScalarType dtype, torch::ScalarType experts) {
  torch::manual_seed(5);
  const auto G = static_cast<int64_t>(c.lengths.size());
  const auto leaf = [](std::vector<int64_t> shape, double scale, torch::ScalarType type) {
    return (torch::randn(shape, torch::kDouble) * scale).to(type).requires_grad_();
  };
  const auto routing = dtype == torch::kDouble ? torch::kDouble : torch::kFloat;
  Arguments a{offsets_of(c.lengths), {}};
  a.tensors = {leaf({a.offsets.back(), c.I}, 1, dtype),
               torch::softmax(torch::randn({G, c.E}), -1).to(routing).requires_grad_(),
               leaf({c.E, c.O, c.I}, 1 / std::sqrt(static_cast<double>(c.I)), experts)};
  return a;
}

Arguments exact(const Arguments& a) {
  Arguments wide{a.offsets, {}};
  for (const Tensor& t : a.tensors) {
    wide.tensors.push_back(t.detach().to(torch::kDouble).requires_grad_());
  }
  return wide;
}

Tensor apply(const Arguments& a, bool reference = false) {
  return merged_linear(a.tensors[0], a.offsets, a.tensors[1], a.tensors[2], reference);
}

/// The formula, a segment at a time, left to autograd.
Tensor by_definition(const Arguments& a) {
  std::vector<Tensor> parts;
  for (size_t g = 0; g + 1 < a.offsets.size(); ++g) {
    const Tensor merged = torch::einsum("e,eoi->oi", {a.tensors[1][g], a.tensors[2]});
    parts.push_back(a.tensors[0].slice(0, a.offsets[g], a.offsets[g + 1]).mm(merged.t()));
  }
  return torch::cat(parts);
}

/// The result and the three gradients.
std::vector<Tensor> results(const Tensor& y, const Arguments& a, const Tensor& dy) {
  std::vector<Tensor> all{y.detach()};
  for (const Tensor& g : torch::autograd::grad({y}, a.tensors, {dy.to(y.scalar_type())})) {
    all.push_back(g);
  }
  return all;
}

void expect_near_definition(const Case& c, torch::ScalarType dtype, torch::ScalarType experts,
                            bool reference, double tolerance) {
  const Arguments a = make_arguments(c, dtype, experts), wide = exact(a);
  const Tensor dy = torch::randn({a.offsets.back(), c.O}).to(dtype);
  const auto actual = results(apply(a, reference), a, dy);
  const auto expected = results(by_definition(wide), wide, dy);
  for (size_t i = 0; i < actual.size(); ++i) {
    EXPECT_EQ(actual[i].scalar_type(), i == 0 ? dtype : a.tensors[i - 1].scalar_type()) << i;
    EXPECT_LT(relative_error(actual[i], expected[i]), tolerance)
        << (i == 0 ? "y" : "gradient " + std::to_string(i - 1)) << ", I " << c.I << " O " << c.O
        << " E " << c.E << ", " << dtype << ", experts " << experts;
  }
}

// Sums of K <= 900 numbers err by about sqrt(K) 2^-53, sqrt(K) 2^-24: two of them in a row. bf16
// rounds merged weights and results once each, to 2^-9 at most.
constexpr double kFp64 = 1e-12, kFp32 = 4e-6, kBf16 = 8e-3;

TEST(MergedLinear, TheReferenceEqualsTheDefinition) {
  for (const Case& c : cases()) {
    expect_near_definition(c, torch::kDouble, torch::kDouble, true, kFp64);
    expect_near_definition(c, torch::kFloat, torch::kFloat, true, kFp32);
    expect_near_definition(c, torch::kBFloat16, torch::kBFloat16, true, kBf16);
    expect_near_definition(c, torch::kBFloat16, torch::kFloat, true, kBf16);
  }
}

class TiledMergedLinear : public testing::TestWithParam<std::string> {
  void SetUp() override {
    if (!cpu::has_level(GetParam())) GTEST_SKIP() << "not on this processor";
  }
};

INSTANTIATE_TEST_SUITE_P(Levels, TiledMergedLinear,
                         testing::Values("avx512bf16", "avx512", "avx2", "portable",
                                         "portable_bf16"),
                         [](const auto& info) { return info.param; });

TEST_P(TiledMergedLinear, EqualsTheDefinition) {
  const AtLevel level(GetParam());
  for (const Case& c : cases()) {
    expect_near_definition(c, torch::kFloat, torch::kFloat, false, kFp32);
    expect_near_definition(c, torch::kBFloat16, torch::kBFloat16, false, kBf16);
    expect_near_definition(c, torch::kBFloat16, torch::kFloat, false, kBf16);
  }
}

TEST_P(TiledMergedLinear, GivesTheSameBitsForAnyNumberOfThreads) {
  const AtLevel level(GetParam());
  const int threads = torch::get_num_threads();
  for (const auto dtype : {torch::kFloat, torch::kBFloat16}) {
    const Arguments a = make_arguments({{64, 100, 3}, 192, 200, 8}, dtype, dtype);
    const Tensor dy = torch::randn({167, 200});
    torch::set_num_threads(1);
    const auto first = results(apply(a), a, dy);
    for (const int count : {2, 3, 20, 1}) {  // 20: tasks are cut within a segment
      torch::set_num_threads(count);
      const auto again = results(apply(a), a, dy);
      for (size_t i = 0; i < first.size(); ++i) {
        EXPECT_TRUE(torch::equal(first[i], again[i])) << i << ", " << count << " threads";
      }
    }
    torch::set_num_threads(threads);
  }
}

TEST(MergedLinear, AGradientThatIsAskedForAloneHasTheSameBits) {
  const Arguments a = make_arguments({{30, 20}, 48, 56, 3}, torch::kFloat, torch::kFloat);
  const Tensor dy = torch::randn({50, 56});
  const auto all = results(apply(a), a, dy);
  for (size_t wanted = 0; wanted < a.tensors.size(); ++wanted) {
    Arguments only = a;
    for (size_t i = 0; i < a.tensors.size(); ++i) {
      only.tensors[i] = a.tensors[i].detach().requires_grad_(i == wanted);
    }
    apply(only).backward(dy);
    for (size_t i = 0; i < a.tensors.size(); ++i) {
      EXPECT_EQ(only.tensors[i].grad().defined(), i == wanted);
    }
    EXPECT_TRUE(torch::equal(only.tensors[wanted].grad(), all[wanted + 1])) << wanted;
  }
}

TEST(MergedLinear, OneExpertIsALinearLayerWhateverTheSegments) {
  Arguments a = make_arguments({{5, 9, 2}, 16, 24, 1}, torch::kDouble, torch::kDouble);
  EXPECT_TRUE(torch::allclose(apply(a), a.tensors[0].mm(a.tensors[2][0].t()), 1e-12, 1e-12));
}

TEST(MergedLinear, NoTokensGiveAnEmptyResultAndZeroGradients) {
  const Arguments a = make_arguments({{}, 4, 6, 2}, torch::kFloat, torch::kFloat);
  const Tensor y = apply(a);
  EXPECT_EQ(y.sizes(), torch::IntArrayRef({0, 6}));
  y.sum().backward();
  EXPECT_EQ(a.tensors[2].grad().abs().sum().item<float>(), 0);
}

TEST(MergedLinear, DoubleBackwardIsRefusedRatherThanWrong) {
  const Arguments a = make_arguments({{4, 6}, 8, 12, 3}, torch::kDouble, torch::kDouble);
  const auto first = torch::autograd::grad({apply(a).square().sum()}, {a.tensors[0]}, {},
                                           std::nullopt, /*create_graph=*/true);
  EXPECT_THROW(first[0].sum().backward(), c10::Error);
}

TEST(MergedLinear, OnMetaGivesShapesWithoutArithmetic) {
  Arguments a = make_arguments({{4, 6}, 8, 12, 3}, torch::kFloat, torch::kFloat);
  for (Tensor& t : a.tensors) t = t.detach().to(torch::kMeta).requires_grad_();
  const Tensor y = apply(a);
  EXPECT_TRUE(y.is_meta());
  EXPECT_EQ(y.sizes(), torch::IntArrayRef({10, 12}));
  EXPECT_EQ(results(y, a, torch::empty_like(y))[3].sizes(), a.tensors[2].sizes());
}

std::string message_of(const Arguments& a) {
  try {
    apply(a);
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  }
  return "no error";
}

TEST(MergedLinear, WrongArgumentsAreRefusedWithTheOperatorAndBothShapes) {
  const Arguments good = make_arguments({{4, 6}, 8, 12, 3}, torch::kFloat, torch::kFloat);
  Arguments bad = good;
  bad.offsets = {0, 4, 9};
  EXPECT_THAT(message_of(bad),
              testing::HasSubstr("lorikeet::merged_linear: offsets must go from 0 to N = 10"));
  bad = good;
  bad.tensors[2] = bad.tensors[2].transpose(1, 2);
  EXPECT_THAT(message_of(bad),
              testing::HasSubstr("weight [3, 8, 12] does not end with I of x [10, 8]"));
  bad = good;
  bad.tensors[1] = bad.tensors[1].slice(1, 0, 2);
  EXPECT_THAT(message_of(bad), testing::HasSubstr("routing must be [2, 3], not [2, 2]"));
  bad = good;
  bad.tensors[2] = bad.tensors[2].to(torch::kBFloat16);
  EXPECT_THAT(message_of(bad), testing::HasSubstr("weight BFloat16 must have the dtype of x"));
}

}  // namespace
}  // namespace lorikeet::ops
