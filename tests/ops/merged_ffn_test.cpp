// N tokens, D model, F feed-forward width, E experts, G segments.
#include "lorikeet/ops/merged_ffn.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <array>

#include "tests/ops/merged_testing.h"

namespace lorikeet::ops {
namespace {

using torch::Tensor;

struct Arguments {
  Tensor x, routing, gate, up, down;
  std::vector<int64_t> offsets;
};

Arguments make_arguments(const std::vector<int64_t>& lengths, int64_t D, int64_t F, int64_t E,
                         torch::ScalarType dtype) {
  torch::manual_seed(7);
  Arguments a;
  a.offsets = offsets_of(lengths);
  const auto G = static_cast<int64_t>(lengths.size());
  const auto leaf = [&](std::vector<int64_t> shape, double scale) {
    return (torch::randn(shape, torch::kDouble) * scale).to(dtype).requires_grad_();
  };
  a.x = leaf({a.offsets.back(), D}, 1.0);
  a.gate = leaf({E, F, D}, 0.5);
  a.up = leaf({E, F, D}, 0.5);
  a.down = leaf({E, D, F}, 0.5);
  a.routing = torch::softmax(torch::randn({G, E}, torch::kDouble), -1)
                  .to(dtype == torch::kDouble ? torch::kDouble : torch::kFloat)
                  .requires_grad_();
  return a;
}

Tensor apply(const Arguments& a) {
  return merged_ffn(a.x, a.offsets, a.routing, a.gate, a.up, a.down);
}

/// The formula, a segment at a time, left to autograd.
Tensor by_definition(const Arguments& a) {
  std::vector<Tensor> parts;
  for (size_t g = 0; g + 1 < a.offsets.size(); ++g) {
    const Tensor x = a.x.slice(0, a.offsets[g], a.offsets[g + 1]);
    const auto merged = [&](const Tensor& w) {
      return torch::einsum("e,eoi->oi", {a.routing[g], w});
    };
    const Tensor h = torch::silu(x.mm(merged(a.gate).t())) * x.mm(merged(a.up).t());
    parts.push_back(h.mm(merged(a.down).t()));
  }
  return torch::cat(parts);
}

std::vector<Tensor> gradients(const Tensor& y, const Tensor& dy, const Arguments& a) {
  return torch::autograd::grad({y}, {a.x, a.routing, a.gate, a.up, a.down}, {dy});
}

using Shape = std::tuple<std::vector<int64_t>, int64_t, int64_t, int64_t>;  // lengths, D, F, E

class MergedFfnShapes : public testing::TestWithParam<Shape> {};

TEST_P(MergedFfnShapes, ForwardAndBackwardEqualTheDefinition) {
  const auto& [lengths, D, F, E] = GetParam();
  // fp64 and fp32 differ from the definition only in the order of sums of at most max(D, F, N,
  // E*F*D) terms. bf16 rounds merged weights, h and its gradients to 8 bits: relative errors of
  // 2^-8 that do not add up coherently.
  for (const auto& [dtype, tolerance] :
       {std::pair{torch::kDouble, 1e-12}, {torch::kFloat, 2e-6}, {torch::kBFloat16, 1.5e-2}}) {
    const Arguments a = make_arguments(lengths, D, F, E, dtype);
    Arguments exact;
    exact.offsets = a.offsets;
    for (const auto member :
         {&Arguments::x, &Arguments::routing, &Arguments::gate, &Arguments::up, &Arguments::down}) {
      exact.*member = (a.*member).detach().to(torch::kDouble).requires_grad_();
    }
    const Tensor y = apply(a), expected = by_definition(exact);
    EXPECT_EQ(y.scalar_type(), dtype);
    EXPECT_LT(relative_error(y, expected), tolerance) << "forward " << dtype;
    const Tensor dy = torch::randn_like(expected);
    const auto actual = gradients(y, dy.to(dtype), a);
    const auto wanted = gradients(expected, dy.to(dtype).to(torch::kDouble), exact);
    for (size_t i = 0; i < actual.size(); ++i) {
      EXPECT_LT(relative_error(actual[i], wanted[i]), tolerance)
          << "gradient " << i << " " << dtype;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, MergedFfnShapes,
    testing::Values(Shape{{8, 8, 8, 8}, 16, 24, 4}, Shape{{5, 1, 17, 2}, 12, 20, 3},
                    Shape{{0, 3, 0, 0, 4, 0}, 8, 8, 2}, Shape{{7}, 6, 10, 1}, Shape{{0}, 4, 4, 2},
                    Shape{std::vector<int64_t>(37, 3), 8, 12, 5}, Shape{{33, 31}, 64, 96, 32}));

TEST(MergedFfn, NoTokensAndNoSegmentsGiveAnEmptyResultAndZeroGradients) {
  const Arguments a = make_arguments({}, 4, 6, 2, torch::kFloat);
  const Tensor y = apply(a);
  EXPECT_EQ(y.sizes(), torch::IntArrayRef({0, 4}));
  y.sum().backward();
  EXPECT_EQ(a.gate.grad().abs().sum().item<float>(), 0);
  EXPECT_EQ(a.gate.grad().sizes(), a.gate.sizes());
}

TEST(MergedFfn, OneExpertIsADenseLayerWhateverTheSegments) {
  const Arguments a = make_arguments({5, 9, 2}, 16, 24, 1, torch::kDouble);
  const Tensor h = torch::silu(a.x.mm(a.gate[0].t())) * a.x.mm(a.up[0].t());
  EXPECT_TRUE(torch::allclose(apply(a), h.mm(a.down[0].t()), 1e-12, 1e-12));
}

TEST(MergedFfn, TheOrderOfExpertsDoesNotMatter) {
  Arguments a = make_arguments({5, 9, 2}, 16, 24, 6, torch::kDouble);
  const Tensor y = apply(a), order = torch::randperm(6);
  a.gate = a.gate.index_select(0, order);
  a.up = a.up.index_select(0, order);
  a.down = a.down.index_select(0, order);
  a.routing = a.routing.index_select(1, order);
  EXPECT_TRUE(torch::allclose(apply(a), y, 1e-12, 1e-12));
}

TEST(MergedFfn, GivesTheSameBitsForAnyNumberOfThreads) {
  const Arguments a = make_arguments({64, 64, 30}, 64, 96, 8, torch::kFloat);
  const int threads = torch::get_num_threads();
  const Tensor y = apply(a), dy = torch::randn_like(y);
  const auto before = gradients(y, dy, a);
  torch::set_num_threads(1);
  const Tensor again = apply(a);
  const auto after = gradients(again, dy, a);
  torch::set_num_threads(threads);
  EXPECT_TRUE(torch::equal(y, again));
  for (size_t i = 0; i < before.size(); ++i) EXPECT_TRUE(torch::equal(before[i], after[i])) << i;
}

TEST(MergedFfn, BackwardTwiceThroughOneGraphGivesTheSameGradients) {
  const Arguments a = make_arguments({4, 6}, 8, 12, 3, torch::kDouble);
  const Tensor y = apply(a);
  y.sum().backward({}, /*retain_graph=*/true);
  const Tensor first = a.gate.grad().clone();
  a.gate.mutable_grad().zero_();
  y.sum().backward();
  EXPECT_TRUE(torch::equal(first, a.gate.grad()));
}

TEST(MergedFfn, DoubleBackwardIsRefusedRatherThanWrong) {
  const Arguments a = make_arguments({4, 6}, 8, 12, 3, torch::kDouble);
  const auto first = torch::autograd::grad({apply(a).square().sum()}, {a.x}, {}, std::nullopt,
                                           /*create_graph=*/true);
  EXPECT_THROW(first[0].sum().backward(), c10::Error);
}

TEST(MergedFfn, OnMetaGivesShapesWithoutArithmetic) {
  Arguments a = make_arguments({4, 6}, 8, 12, 3, torch::kFloat);
  for (const auto member :
       {&Arguments::x, &Arguments::routing, &Arguments::gate, &Arguments::up, &Arguments::down}) {
    a.*member = (a.*member).detach().to(torch::kMeta).requires_grad_();
  }
  const Tensor y = apply(a);
  EXPECT_TRUE(y.is_meta());
  EXPECT_EQ(y.sizes(), a.x.sizes());
  EXPECT_EQ(gradients(y, torch::empty_like(y), a)[4].sizes(), a.down.sizes());
}

TEST(MergedFfn, NonContiguousArgumentsAreTaken) {
  Arguments a = make_arguments({4, 6}, 8, 8, 3, torch::kDouble);
  const Tensor expected = by_definition(a);
  a.x = a.x.detach().t().contiguous().t();
  a.down = a.down.detach().transpose(1, 2).contiguous().transpose(1, 2);
  a.routing = a.routing.detach().t().contiguous().t();
  EXPECT_TRUE(torch::allclose(apply(a), expected, 1e-12, 1e-12));
}

std::string message_of(const Arguments& a) {
  try {
    apply(a);
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  }
  return "no error";
}

TEST(MergedFfn, WrongArgumentsAreRefusedWithTheOperatorAndBothShapes) {
  const Arguments good = make_arguments({4, 6}, 8, 12, 3, torch::kFloat);
  Arguments bad = good;
  bad.offsets = {0, 4, 9};
  EXPECT_THAT(message_of(bad), testing::HasSubstr("offsets must go from 0 to N = 10"));
  bad.offsets = {0, 11, 10};
  EXPECT_THAT(message_of(bad), testing::HasSubstr("offsets must not decrease"));
  bad = good;
  bad.down = bad.down.transpose(1, 2);
  EXPECT_THAT(message_of(bad), testing::HasSubstr("down must be [3, 8, 12], not [3, 12, 8]"));
  bad = good;
  bad.up = bad.up.slice(0, 0, 2);
  EXPECT_THAT(message_of(bad), testing::HasSubstr("up [2, 12, 8] must have the shape of gate"));
  bad = good;
  bad.routing = bad.routing.to(torch::kDouble);
  EXPECT_THAT(message_of(bad), testing::HasSubstr("routing must be"));
  bad = good;
  bad.gate = bad.gate.to(torch::kDouble);
  EXPECT_THAT(message_of(bad), testing::HasSubstr("must have the dtype of x"));
  bad = good;
  bad.x = bad.x.view({2, 5, 8});
  EXPECT_THAT(message_of(bad), testing::HasSubstr("x must be [N, D]"));
}

}  // namespace
}  // namespace lorikeet::ops
