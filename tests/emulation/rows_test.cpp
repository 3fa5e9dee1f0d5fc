// The row kernels, run by the emulator, against their formulas in fp64.
//
// N tokens, A query heads, K key heads, H head size, V words.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <limits>
#include <set>
#include <string>

#include "src/ops/cuda/rows.h"
#include "tests/emulation/row_checks.h"

namespace lorikeet::emulation {
namespace {

using namespace ops::cuda;
using torch::Tensor;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// fp32: a few roundings. bf16: the result is rounded once, to 2^-9.
double tolerance(torch::ScalarType type) { return type == torch::kFloat ? 1e-6 : 3e-3; }

// --- RoPE

struct RopeCase {
  int64_t B, L, A, K, H;
  bool is_table_shared;  ///< one for all sequences
};

class EmulatedRope : public testing::TestWithParam<RopeCase> {};
INSTANTIATE_TEST_SUITE_P(Shapes, EmulatedRope,
                         testing::Values(RopeCase{1, 1, 1, 1, 16, true},
                                         RopeCase{2, 9, 3, 1, 32, true},
                                         RopeCase{2, 3, 2, 2, 48, false},
                                         RopeCase{1, 40, 4, 2, 128, true}));

/// Queries, keys and the table.
struct RopeData {
  RopeData(const RopeCase& c, torch::ScalarType type) {
    torch::manual_seed(2);
    q = torch::randn({c.B, c.L, c.A, c.H}, torch::kDouble).to(type);
    k = torch::randn({c.B, c.L, c.K, c.H}, torch::kDouble).to(type);
    const Tensor angles = torch::randn({c.is_table_shared ? 1 : c.B, c.L, c.H / 2}) * 3;
    cos = angles.cos();
    sin = angles.sin();
  }
  RopeArguments arguments(const Tensor& q_out, const Tensor& k_out, bool inverse) const {
    return {{q.data_ptr(), q_out.data_ptr(), static_cast<int>(q.size(2))},
            {k.data_ptr(), k_out.data_ptr(), static_cast<int>(k.size(2))},
            cos.const_data_ptr<float>(),
            sin.const_data_ptr<float>(),
            q.size(0) * q.size(1),
            cos.size(0) * cos.size(1),
            static_cast<int>(q.size(3) / 2),
            inverse ? 1 : 0};
  }
  Tensor rotated(const Tensor& x, bool inverse) const {
    const Tensor wide = x.to(torch::kDouble);
    const auto halves = wide.chunk(2, -1);
    const Tensor c = cos.unsqueeze(2), s = inverse ? -sin.unsqueeze(2) : sin.unsqueeze(2);
    return torch::cat({halves[0] * c - halves[1] * s, halves[1] * c + halves[0] * s}, -1);
  }
  Tensor q, k, cos, sin;
};

TEST_P(EmulatedRope, IsTheRotationOfBothDtypesThereAndBack) {
  set_schedule({.seed = 4, .resident_blocks = 3});
  for (const auto type : {torch::kFloat, torch::kBFloat16}) {
    const RopeData data(GetParam(), type);
    for (const bool inverse : {false, true}) {
      const Tensor q = torch::full_like(data.q, kNaN), k = torch::full_like(data.k, kNaN);
      const RopeArguments arg = data.arguments(q, k, inverse);
      launch_rope(arg, type == torch::kFloat, 3, nullptr);
      EXPECT_LT(relative_error(q, data.rotated(data.q, inverse)), tolerance(type));
      EXPECT_LT(relative_error(k, data.rotated(data.k, inverse)), tolerance(type));
      const Report report = expect_no_faults();
      expect_work(report.runs.at(0).counts, count_rope(arg, type == torch::kFloat, 3).work);
    }
  }
}

TEST(EmulatedRopeInPlace, IsTheSameToTheLastBit) {
  set_schedule({});
  const RopeCase shape{2, 5, 2, 1, 32, true};
  RopeData data(shape, torch::kBFloat16);
  const Tensor q = torch::empty_like(data.q), k = torch::empty_like(data.k);
  launch_rope(data.arguments(q, k, false), false, 2, nullptr);
  take_report();
  const RopeArguments arg = data.arguments(data.q, data.k, false);
  launch_rope(arg, false, 2, nullptr);
  EXPECT_TRUE(torch::equal(q, data.q));
  EXPECT_TRUE(torch::equal(k, data.k));
  const Report report = expect_no_faults();
  expect_work(report.runs.at(0).counts, count_rope(arg, false, 2).work);
}

// --- Cross-entropy

struct Chunk {
  Chunk(int64_t rows, int64_t V, torch::ScalarType type, double spread = 3) {
    torch::manual_seed(6);
    logits = (torch::randn({rows, V}, torch::kDouble) * spread).to(type);
    targets = torch::randint(V, {rows}, torch::kLong);
    if (rows > 2) targets[1] = -100;
    losses = torch::full({rows}, kNaN, torch::kFloat);
  }
  CrossEntropyArguments arguments(const Tensor& gradients) const {
    return {logits.data_ptr(),
            gradients.defined() ? gradients.data_ptr() : nullptr,
            targets.const_data_ptr<int64_t>(),
            losses.data_ptr<float>(),
            static_cast<int>(logits.size(0)),
            static_cast<int>(logits.size(1)),
            kScale};
  }
  Tensor expected_losses() const {
    return torch::cross_entropy_loss(logits.to(torch::kDouble), targets, {}, at::Reduction::None);
  }
  Tensor expected_gradients() const {
    const Tensor wide = logits.to(torch::kDouble).requires_grad_();
    const Tensor sum = torch::cross_entropy_loss(wide, targets, {}, at::Reduction::Sum);
    return torch::autograd::grad({sum}, {wide})[0] * kScale;
  }
  void run(const Tensor& gradients, int blocks = 2) const {
    launch_cross_entropy(arguments(gradients), logits.scalar_type() == torch::kFloat, blocks,
                         nullptr);
  }
  static constexpr float kScale = 0.25f;
  Tensor logits, targets, losses;
};

struct ChunkCase {
  int64_t rows, V;
};
class EmulatedCrossEntropy : public testing::TestWithParam<ChunkCase> {};
// Fewer columns than threads, whole rounds of a block's threads, and a rest.
INSTANTIATE_TEST_SUITE_P(Shapes, EmulatedCrossEntropy,
                         testing::Values(ChunkCase{1, 8}, ChunkCase{5, 264}, ChunkCase{3, 2048},
                                         ChunkCase{4, 4104}));

TEST_P(EmulatedCrossEntropy, GivesLossesAndGradientsOfBothDtypes) {
  set_schedule({.seed = 8, .resident_blocks = 3});
  const auto [rows, V] = GetParam();
  for (const auto type : {torch::kFloat, torch::kBFloat16}) {
    const Chunk chunk(rows, V, type);
    const Tensor gradients = torch::full_like(chunk.logits, kNaN);
    chunk.run(gradients);
    EXPECT_LT(relative_error(chunk.losses, chunk.expected_losses()), 1e-6);
    EXPECT_LT(relative_error(gradients, chunk.expected_gradients()), tolerance(type));
    const Report report = expect_no_faults();
    const int64_t counting = chunk.targets.ge(0).sum().item<int64_t>();
    expect_work(
        report.runs.at(0).counts,
        count_cross_entropy(chunk.arguments(gradients), type == torch::kFloat, 2, counting).work);
  }
}

TEST(EmulatedCrossEntropyForms, InPlaceAndWithoutGradientsAreTheSame) {
  set_schedule({});
  const Chunk chunk(4, 264, torch::kBFloat16);
  const Tensor gradients = torch::empty_like(chunk.logits);
  chunk.run(gradients);
  const Tensor losses = chunk.losses.clone();
  for (const bool has_gradients : {false, true}) {
    take_report();
    chunk.losses.fill_(kNaN);
    const Tensor in_place = has_gradients ? chunk.logits : Tensor();
    chunk.run(in_place);
    EXPECT_TRUE(torch::equal(chunk.losses, losses));
    const Report report = expect_no_faults();
    expect_work(report.runs.at(0).counts,
                count_cross_entropy(chunk.arguments(in_place), false, 2, 3).work);
  }
  EXPECT_TRUE(torch::equal(chunk.logits, gradients));
}

// exp of no logit overflows, and one of minus infinity weighs nothing.
TEST(EmulatedCrossEntropyRange, IsThatOfFp32) {
  set_schedule({});
  Chunk chunk(3, 264, torch::kFloat, /*spread=*/1e4);
  chunk.logits[0].slice(0, 3, 200) = -kInfinity;
  chunk.targets[0] = 1;
  const Tensor gradients = torch::empty_like(chunk.logits);
  chunk.run(gradients);
  EXPECT_LT(relative_error(chunk.losses, chunk.expected_losses()), 1e-6);
  EXPECT_LT((gradients - chunk.expected_gradients()).abs().max().item<double>(), 1e-6);
  chunk.logits[2][7] = kNaN;  // shows in the loss, and not in the other rows'
  chunk.targets[2] = 0;
  chunk.run(gradients);
  EXPECT_EQ(chunk.losses.isnan().sum().item<int64_t>(), 1);
  EXPECT_TRUE(chunk.losses[2].isnan().item<bool>());
  expect_no_faults();
}

// The row's neighbours are other rows, and before and after them there is nothing to be read.
TEST(EmulatedCrossEntropyTargets, ThatAreNoWordsGiveNotANumberAndNothingElse) {
  set_schedule({});
  for (const int64_t wrong : {int64_t{264}, int64_t{1} << 31, (int64_t{1} << 32) + 5, int64_t{-1},
                              int64_t{-99}, std::numeric_limits<int64_t>::min()}) {
    for (const bool in_place : {false, true}) {
      const Chunk chunk(3, 264, torch::kFloat);
      chunk.targets[0] = wrong;
      const Tensor gradients = in_place ? chunk.logits : torch::empty_like(chunk.logits);
      Chunk right(3, 264, torch::kFloat);
      const Tensor expected = torch::empty_like(gradients);
      right.run(expected);
      take_report();
      chunk.run(gradients);
      EXPECT_TRUE(chunk.losses[0].isnan().item<bool>()) << wrong;
      EXPECT_TRUE(gradients[0].isnan().all().item<bool>()) << wrong;
      EXPECT_TRUE(torch::equal(chunk.losses.slice(0, 1), right.losses.slice(0, 1)));
      EXPECT_TRUE(torch::equal(gradients.slice(0, 1), expected.slice(0, 1)));
      expect_no_faults();
    }
  }
}

// One row and one block: nothing but the target's logit is between its reader and its writer.
TEST(EmulatedCrossEntropyBarriers, AreAllNeeded) {
  const auto run = [&](const std::string& without) {
    set_schedule({.seed = 2, .without_barrier = without});
    take_report();
    const Chunk again(1, 264, torch::kBFloat16);
    again.run(again.logits, /*blocks=*/1);
    return take_report();
  };
  const std::set<std::string> barriers = run("").barriers;
  ASSERT_EQ(barriers.size(), 2u);
  EXPECT_THAT(run(*barriers.rbegin()).text(), testing::HasSubstr("global memory that thread"));
#if defined(LORIKEET_INSTRUMENTED)
  EXPECT_THAT(run(*barriers.begin()).text(), testing::HasSubstr("shared byte"));
#endif
}

TEST(EmulatedCrossEntropySchedules, GiveTheSameBits) {
  std::vector<Tensor> first;
  for (unsigned seed = 1; seed <= 3; ++seed) {
    set_schedule({.seed = seed, .resident_blocks = static_cast<int>(seed)});
    const Chunk chunk(5, 2056, torch::kFloat);
    const Tensor gradients = torch::empty_like(chunk.logits);
    chunk.run(gradients, /*blocks=*/static_cast<int>(seed));
    if (first.empty()) first = {chunk.losses, gradients};
    EXPECT_TRUE(torch::equal(first[0], chunk.losses));
    EXPECT_TRUE(torch::equal(first[1], gradients));
  }
  expect_no_faults();
}

}  // namespace
}  // namespace lorikeet::emulation
