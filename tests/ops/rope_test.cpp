// B sequences, L tokens, A query heads, K key heads, H head size.
#include "lorikeet/ops/rope.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "tests/ops/row_testing.h"

namespace lorikeet::ops {
namespace {

using torch::Tensor;

struct Case {
  int64_t B, L, A, K, H;
  bool table_per_row;
};

RopeTable table_of(const Case& c) {
  const RopeTable table =
      make_rope_table(torch::arange(c.table_per_row ? c.B * c.L : c.L), c.H, 1e4);
  if (!c.table_per_row) return table;
  return {table.cos.view({c.B, c.L, c.H / 2}), table.sin.view({c.B, c.L, c.H / 2})};
}

Tensor leaf(at::IntArrayRef sizes, torch::ScalarType dtype) {
  return torch::randn(sizes, torch::kDouble).to(dtype).requires_grad_();
}

/// Both rotated, and the gradients of both.
std::vector<Tensor> results(const Tensor& q, const Tensor& k, const RopeTable& table,
                            const Tensor& dq, const Tensor& dk, bool reference) {
  const auto [y, z] = apply_rope(q, k, table, reference);
  std::vector<Tensor> all{y.detach(), z.detach()};
  const auto dtype = q.scalar_type();
  for (const Tensor& g : torch::autograd::grad({y, z}, {q, k}, {dq.to(dtype), dk.to(dtype)})) {
    all.push_back(g);
  }
  return all;
}

// fp64: the same arithmetic. fp32: two products and a sum, each rounded. bf16: rounded once, 2^-9.
double tolerance_of(torch::ScalarType dtype) {
  return dtype == torch::kDouble ? 1e-15 : dtype == torch::kFloat ? 2e-7 : 3e-3;
}

void expect_near_reference(const Tensor& q, const Tensor& k, const RopeTable& table) {
  const auto dtype = q.scalar_type();
  const Tensor dq = torch::randn(q.sizes()).to(dtype), dk = torch::randn(k.sizes()).to(dtype);
  const auto wide = [](const Tensor& t) { return t.detach().to(torch::kDouble).requires_grad_(); };
  const auto exact = results(wide(q), wide(k), table, dq, dk, /*reference=*/true);
  for (const std::string& level : all_levels()) {
    const AtLevel at(level);
    const auto ours = results(q, k, table, dq, dk, /*reference=*/false);
    for (size_t i = 0; i < ours.size(); ++i) {
      EXPECT_EQ(ours[i].sizes(), exact[i].sizes());
      EXPECT_EQ(ours[i].scalar_type(), dtype);
      EXPECT_LT(relative_error(ours[i], exact[i]), tolerance_of(dtype)) << level << ' ' << i;
    }
  }
}

class RopeShapes : public testing::TestWithParam<Case> {};

TEST_P(RopeShapes, RotationAndItsGradientEqualTheReferenceInFp64) {
  const Case& c = GetParam();
  torch::manual_seed(1);
  for (const auto dtype : {torch::kDouble, torch::kFloat, torch::kBFloat16}) {
    expect_near_reference(leaf({c.B, c.L, c.A, c.H}, dtype), leaf({c.B, c.L, c.K, c.H}, dtype),
                          table_of(c));
  }
}

INSTANTIATE_TEST_SUITE_P(All, RopeShapes,
                         testing::Values(Case{2, 5, 4, 2, 64, false}, Case{2, 5, 4, 4, 64, true},
                                         Case{1, 1, 1, 1, 2, false}, Case{3, 70, 2, 1, 34, true},
                                         Case{1, 300, 3, 3, 80, false}));

TEST(Rope, TakesMemoryOfAnyLayout) {
  torch::manual_seed(2);
  for (const auto dtype : {torch::kFloat, torch::kBFloat16}) {
    const Case c{2, 7, 3, 3, 20, false};
    const Tensor by_head = leaf({c.B, c.A, c.L, c.H}, dtype).transpose(1, 2).detach();
    const Tensor part = leaf({c.B, c.L, c.K, 2 * c.H + 1}, dtype).narrow(3, 1, c.H).detach();
    expect_near_reference(by_head.requires_grad_(), part.requires_grad_(), table_of(c));
  }
}

TEST(Rope, GivesTheSameBitsForAnyNumberOfThreads) {
  torch::manual_seed(3);
  const Case c{2, 300, 2, 1, 32, false};
  const Tensor q = leaf({c.B, c.L, c.A, c.H}, torch::kFloat),
               k = leaf({c.B, c.L, c.K, c.H}, torch::kFloat);
  const Tensor dq = torch::randn(q.sizes()), dk = torch::randn(k.sizes());
  expect_same_bits_for_any_threads([&] { return results(q, k, table_of(c), dq, dk, false); });
}

TEST(Rope, RotatesPairsHalfAHeadApartByPositionTimesFrequency) {
  const RopeTable table = make_rope_table(torch::tensor({0, 1, 5}, torch::kLong), 4, 100.0);
  const Tensor x = torch::tensor({1.0, 2.0, 3.0, 4.0}, torch::kDouble).expand({1, 3, 1, 4});
  const Tensor y = apply_rope(x, x, table).first;
  EXPECT_TRUE(torch::equal(y[0][0][0], x[0][0][0])) << "position 0 is not rotated";
  for (const auto& [row, position] : {std::pair{1, 1.0}, {2, 5.0}}) {
    const double a = position, b = position / 10;  // theta^(-0/4), theta^(-2/4)
    const Tensor expected =
        torch::tensor({std::cos(a) - 3 * std::sin(a), 2 * std::cos(b) - 4 * std::sin(b),
                       3 * std::cos(a) + std::sin(a), 4 * std::cos(b) + 2 * std::sin(b)},
                      torch::kDouble);
    EXPECT_TRUE(torch::allclose(y[0][row][0], expected, 0, 1e-6)) << "angles are fp32";
  }
}

TEST(Rope, ScoresDependOnDistanceAlone) {
  torch::manual_seed(1);
  const Tensor q = torch::randn({1, 1, 1, 64}, torch::kDouble), k = torch::randn_like(q);
  const auto score = [&](int64_t at_q, int64_t at_k) {
    const auto turned = [](const Tensor& x, int64_t position) {
      const auto table = make_rope_table(torch::tensor({position}, torch::kLong), 64, 1e4);
      return apply_rope(x, x, table).first;
    };
    return (turned(q, at_q) * turned(k, at_k)).sum().item<double>();
  };
  EXPECT_NEAR(score(7, 3), score(1004, 1000), 1e-2);  // fp32 angles near 1000 are good to 6e-5
  EXPECT_GT(std::abs(score(7, 3) - score(7, 4)), 1e-2);
}

// Only q is used further: k's gradient is zero, not missing.
TEST(Rope, OneResultAloneMayBeUsed) {
  const Case c{1, 5, 2, 2, 8, false};
  const Tensor q = leaf({1, 5, 2, 8}, torch::kFloat), k = leaf({1, 5, 2, 8}, torch::kFloat);
  apply_rope(q, k, table_of(c)).first.sum().backward();
  EXPECT_TRUE(q.grad().defined());
  EXPECT_TRUE(k.grad().equal(torch::zeros_like(k)));
}

TEST(Rope, IsDifferentiableTwice) {
  const Case c{1, 4, 1, 1, 6, false};
  const Tensor q = leaf({1, 4, 1, 6}, torch::kDouble), k = leaf({1, 4, 1, 6}, torch::kDouble);
  const Tensor loss = apply_rope(q, k, table_of(c)).first.pow(3).sum();
  const Tensor dq = torch::autograd::grad({loss}, {q}, {}, std::nullopt, /*create_graph=*/true)[0];
  const Tensor second = torch::autograd::grad({dq.sum()}, {q})[0];
  const Tensor other = apply_rope(q, k, table_of(c), /*reference=*/true).first.pow(3).sum();
  const Tensor dq_r =
      torch::autograd::grad({other}, {q}, {}, std::nullopt, /*create_graph=*/true)[0];
  EXPECT_LT(relative_error(second, torch::autograd::grad({dq_r.sum()}, {q})[0]), 1e-14);
}

TEST(Rope, RefusesATableOfAnotherShape) {
  const Tensor q = torch::ones({2, 5, 1, 8});
  const RopeTable table = make_rope_table(torch::arange(6), 8, 1e4);
  EXPECT_THROW(apply_rope(q, q, table), c10::Error);
  EXPECT_THROW(apply_rope(q, torch::ones({2, 5, 1, 6}), make_rope_table(torch::arange(5), 8, 1e4)),
               c10::Error);
}

}  // namespace
}  // namespace lorikeet::ops
