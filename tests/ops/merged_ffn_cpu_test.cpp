// The tiled CPU form of merged_ffn at every level of processor that this machine has.
//
// N tokens, D model, F feed-forward width, E experts, G segments.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <optional>

#include "lorikeet/ops/merged_ffn.h"
#include "lorikeet/ops/processor_level.h"
#include "lorikeet/ops/workspace.h"
#include "src/ops/find_operator.h"
#include "tests/ops/merged_testing.h"
#include "tests/support/tensor_memory.h"

namespace lorikeet::ops {
namespace {

using torch::Tensor;

struct Arguments {
  std::vector<int64_t> offsets;
  std::vector<Tensor> tensors;  // x, routing, gate, up, down
};

Arguments make_arguments(const std::vector<int64_t>& lengths, int64_t D, int64_t F, int64_t E,
                         torch::ScalarType dtype, torch::ScalarType experts) {
  torch::manual_seed(11);
  Arguments a;
  a.offsets = offsets_of(lengths);
  const auto G = static_cast<int64_t>(lengths.size());
  const auto leaf = [](std::vector<int64_t> shape, double scale, torch::ScalarType type) {
    return (torch::randn(shape, torch::kDouble) * scale).to(type).requires_grad_();
  };
  const double scale = 1 / std::sqrt(static_cast<double>(D));
  a.tensors = {leaf({a.offsets.back(), D}, 1, dtype),
               torch::softmax(torch::randn({G, E}), -1).requires_grad_(),
               leaf({E, F, D}, scale, experts), leaf({E, F, D}, scale, experts),
               leaf({E, D, F}, scale, experts)};
  return a;
}

/// The same values in fp64, which takes the reference form.
Arguments exact(const Arguments& a) {
  Arguments wide{a.offsets, {}};
  for (const Tensor& t : a.tensors) {
    wide.tensors.push_back(t.detach().to(torch::kDouble).requires_grad_());
  }
  return wide;
}

Tensor apply(const Arguments& a, bool reference = false) {
  const auto& t = a.tensors;
  return merged_ffn(t[0], a.offsets, t[1], t[2], t[3], t[4], reference);
}

/// y and the five gradients.
std::vector<Tensor> results(const Arguments& a, const Tensor& dy, bool reference = false) {
  const Tensor y = apply(a, reference);
  std::vector<Tensor> all{y.detach()};
  for (const Tensor& g : torch::autograd::grad({y}, a.tensors, {dy.to(y.scalar_type())})) {
    all.push_back(g);
  }
  return all;
}

/// y and what forward saves, by the operator itself.
std::tuple<Tensor, Tensor, Tensor> forward(const Arguments& a) {
  static const auto op = find_operator<std::tuple<Tensor, Tensor, Tensor>(
      const Tensor&, at::IntArrayRef, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
      bool, bool)>("lorikeet::merged_ffn_forward");
  const torch::NoGradGuard no_graph;
  const auto& t = a.tensors;
  return op.call(t[0], a.offsets, t[1], t[2], t[3], t[4], /*reference=*/false, /*save=*/true);
}

using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;
Gradients backward(const Arguments& arguments, const Tensor& dy, const Tensor& a, const Tensor& b) {
  static const auto op =
      find_operator<Gradients(const Tensor&, const Tensor&, at::IntArrayRef, const Tensor&,
                              const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                              const Tensor&, std::array<bool, 5>)>("lorikeet::merged_ffn_backward");
  const torch::NoGradGuard no_graph;
  const auto& t = arguments.tensors;
  return op.call(dy, t[0], arguments.offsets, t[1], t[2], t[3], t[4], a, b,
                 {true, true, true, true, true});
}

struct Case {
  std::vector<int64_t> lengths;
  int64_t D, F, E;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {{64, 64}, 64, 64, 1},                      // whole panels and blocks
      {{5, 0, 1, 70, 16, 0}, 34, 50, 3},          // empty, short and odd segments, odd blocks
      {{300}, 66, 130, 1},                        // a segment of two strips, the second short
      {{17, 255, 33}, 96, 100, 8},                //
      {std::vector<int64_t>(19, 7), 48, 40, 32},  // more segments than a chunk holds
      {std::vector<int64_t>(11, 9), 72, 56, 8},   // eight merged together, then three
      {std::vector<int64_t>(13, 6), 80, 64, 12},  // twelve, then one
      {{9, 40}, 31, 45, 8},                       // widths without pairs
      {{20, 12}, 130, 800, 3},                    // several outer blocks of F
      {{1}, 1, 1, 1},
  };
  return all;
}

class TiledMergedFfn : public testing::TestWithParam<std::string> {
  void SetUp() override {
    if (!cpu::has_level(GetParam())) GTEST_SKIP() << "not on this processor";
  }
};

INSTANTIATE_TEST_SUITE_P(Levels, TiledMergedFfn,
                         testing::Values("avx512bf16", "avx512", "avx2", "portable",
                                         "portable_bf16"),
                         [](const auto& info) { return info.param; });

void expect_near_exact(const Case& c, torch::ScalarType dtype, torch::ScalarType experts,
                       double tolerance) {
  const Arguments a = make_arguments(c.lengths, c.D, c.F, c.E, dtype, experts);
  const Tensor dy = torch::randn(a.tensors[0].sizes()).to(dtype);
  const auto actual = results(a, dy), expected = results(exact(a), dy);
  for (size_t i = 0; i < actual.size(); ++i) {
    EXPECT_EQ(actual[i].scalar_type(), i == 0 ? dtype : a.tensors[i - 1].scalar_type()) << i;
    EXPECT_LT(relative_error(actual[i], expected[i]), tolerance)
        << (i == 0 ? "y" : "gradient " + std::to_string(i - 1)) << ", D " << c.D << " F " << c.F
        << " E " << c.E << ", " << dtype << ", experts " << experts;
  }
}

// Sums of K numbers in fp32 err by at most K 2^-24 of the sum of magnitudes, and by about
// sqrt(K) 2^-24 where errors are independent; three of them in a row, K <= 800: 5e-6.
TEST_P(TiledMergedFfn, Fp32EqualsTheReferenceInFp64) {
  const AtLevel level(GetParam());
  for (const Case& c : cases()) expect_near_exact(c, torch::kFloat, torch::kFloat, 5e-6);
}

// bf16 rounds merged weights, h, da and db once each, to 2^-9 at most; the saved products too.
TEST_P(TiledMergedFfn, Bf16EqualsTheReferenceInFp64UpToItsRounding) {
  const AtLevel level(GetParam());
  for (const Case& c : cases()) {
    expect_near_exact(c, torch::kBFloat16, torch::kBFloat16, 1.2e-2);
    expect_near_exact(c, torch::kBFloat16, torch::kFloat, 1.2e-2);
  }
}

TEST_P(TiledMergedFfn, GivesTheSameBitsForAnyNumberOfThreadsAndRunAfterRun) {
  const AtLevel level(GetParam());
  const int threads = torch::get_num_threads();
  for (const auto dtype : {torch::kFloat, torch::kBFloat16}) {
    const Arguments a = make_arguments({64, 100, 3}, 192, 200, 8, dtype, dtype);
    const Tensor dy = torch::randn(a.tensors[0].sizes());
    torch::set_num_threads(1);
    const auto first = results(a, dy);
    for (const int count : {2, 2, 3, 1}) {
      torch::set_num_threads(count);
      const auto again = results(a, dy);
      for (size_t i = 0; i < first.size(); ++i) {
        EXPECT_TRUE(torch::equal(first[i], again[i])) << i << ", " << count << " threads";
      }
    }
    torch::set_num_threads(threads);
  }
}

/// The same numbers, every other place in memory.
Tensor spread(const Tensor& t) {
  Tensor places = torch::full({t.numel(), 2}, 9, t.options());
  places.select(1, 0).copy_(t.flatten());
  return places.select(1, 0).view(t.sizes());
}

TEST_P(TiledMergedFfn, BackwardTakesTensorsThatAreNotContiguous) {
  const AtLevel level(GetParam());
  for (const auto dtype : {torch::kFloat, torch::kBFloat16}) {
    const Arguments arguments = make_arguments({30, 20}, 48, 56, 3, dtype, dtype);
    const Tensor dy = torch::randn(arguments.tensors[0].sizes()).to(dtype);
    const auto [y, a, b] = forward(arguments);
    ASSERT_FALSE(spread(a).is_contiguous());
    const auto of = [](const Gradients& g) {
      return std::apply([](const auto&... each) { return std::vector<Tensor>{each...}; }, g);
    };
    const auto expected = of(backward(arguments, dy, a, b));
    const auto actual = of(backward(arguments, spread(dy), spread(a), spread(b)));
    for (size_t i = 0; i < actual.size(); ++i) {
      EXPECT_TRUE(torch::equal(actual[i], expected[i])) << i << ' ' << dtype;
    }
  }
}

TEST_P(TiledMergedFfn, AGradientThatIsAskedForAloneHasTheSameBits) {
  const AtLevel level(GetParam());
  Arguments a = make_arguments({30, 20}, 48, 56, 3, torch::kFloat, torch::kFloat);
  const Tensor dy = torch::randn(a.tensors[0].sizes());
  const auto all = results(a, dy);
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

TEST(MergedFfnLevels, ReferenceCanBeAskedForByArgumentAndByLevel) {
  const Arguments a = make_arguments({30, 20}, 48, 56, 3, torch::kFloat, torch::kFloat);
  const Tensor dy = torch::randn(a.tensors[0].sizes());
  const auto by_argument = results(a, dy, /*reference=*/true);
  const AtLevel level("reference");
  const auto by_level = results(a, dy);
  for (size_t i = 0; i < by_level.size(); ++i) {
    EXPECT_TRUE(torch::equal(by_argument[i], by_level[i])) << i;
  }
}

/// LORIKEET_CPU for as long as it lives.
class CpuVariable {
 public:
  explicit CpuVariable(const std::string& value) {
    const char* const before = std::getenv("LORIKEET_CPU");
    if (before != nullptr) before_ = before;
    ::setenv("LORIKEET_CPU", value.c_str(), 1);
  }
  ~CpuVariable() {
    if (before_) {
      ::setenv("LORIKEET_CPU", before_->c_str(), 1);
    } else {
      ::unsetenv("LORIKEET_CPU");
    }
    cpu::force_level("");
  }
  CpuVariable(const CpuVariable&) = delete;
  CpuVariable& operator=(const CpuVariable&) = delete;

 private:
  std::optional<std::string> before_;
};

TEST(MergedFfnLevels, TheEnvironmentForcesALevelDown) {
  for (const std::string name : {"avx512bf16", "avx512", "avx2", "portable", "reference"}) {
    if (!cpu::has_level(name)) continue;
    const CpuVariable variable(name);
    cpu::force_level("");
    EXPECT_EQ(cpu::level().name, name);
  }
}

TEST(MergedFfnLevels, AnUnknownLevelIsRefusedByName) {
  EXPECT_THROW(cpu::force_level("avx1024"), c10::Error);
  const auto problem_of = [](const std::string& name) {
    const CpuVariable variable(name);
    return processor_level_problem();
  };
  EXPECT_EQ(problem_of("avx1024"), "it may be avx512bf16, avx512, avx2, portable or reference");
  EXPECT_EQ(problem_of("portable"), "");
}

TEST(MergedFfnThreads, AnyNumberGivesTheSameBitsAtTheSizeOfALayer) {
  const int threads = torch::get_num_threads();
  for (const auto dtype : {torch::kFloat, torch::kBFloat16}) {
    const Arguments a = make_arguments({40, 200, 64, 9}, 512, 1376, 8, dtype, dtype);
    const Tensor dy = torch::randn(a.tensors[0].sizes());
    torch::set_num_threads(1);
    const auto first = results(a, dy);
    for (const int count : {2, 3, 8, 20}) {  // 20: tasks are cut within a segment
      torch::set_num_threads(count);
      const auto again = results(a, dy);
      for (size_t i = 0; i < first.size(); ++i) {
        EXPECT_TRUE(torch::equal(first[i], again[i])) << i << ", " << count << " threads " << dtype;
      }
    }
    torch::set_num_threads(threads);
  }
}

// What tensors' allocator counts at the peak, beyond what is there after the call.
TEST_P(TiledMergedFfn, WorkspaceIsReportedToTheByte) {
  const AtLevel level(GetParam());
  for (const Case& c : cases()) {
    for (const auto& [dtype, experts] : {std::pair{torch::kFloat, torch::kFloat},
                                         {torch::kBFloat16, torch::kBFloat16},
                                         {torch::kBFloat16, torch::kFloat}}) {
      const Arguments arguments = make_arguments(c.lengths, c.D, c.F, c.E, dtype, experts);
      const Tensor dy = torch::randn(arguments.tensors[0].sizes()).to(dtype);
      const auto expect_reported = [&](bool is_backward, const auto& call) {
        const TensorMemory memory;
        const auto kept = call();
        EXPECT_EQ(tiled_workspace_bytes(is_backward), memory.peak_bytes() - memory.bytes())
            << "D " << c.D << " F " << c.F << " E " << c.E << ' ' << dtype << ' ' << experts << ' '
            << is_backward;
        return kept;
      };
      const auto [y, a, b] = expect_reported(false, [&] { return forward(arguments); });
      EXPECT_EQ(tiled_saved_bytes(), static_cast<int64_t>(a.nbytes() + b.nbytes()));
      const Tensor &saved_a = a, &saved_b = b;
      expect_reported(true, [&] { return backward(arguments, dy, saved_a, saved_b); });
    }
  }
}

TEST(MergedFfnWorkspace, StaysBelowItsBound) {
  if (cpu::level().kernels == nullptr) GTEST_SKIP() << "the reference form is not counted";
  const int threads = torch::get_num_threads();
  torch::set_num_threads(2);
  const std::vector<int64_t> lengths(16, 64);
  const int64_t tokens = 16 * 64;
  for (const Case& c : {Case{lengths, 128, 704, 1}, Case{lengths, 128, 704, 8},
                        Case{lengths, 256, 1408, 8}, Case{lengths, 512, 1376, 2}}) {
    for (const auto dtype : {torch::kFloat, torch::kBFloat16}) {
      const Arguments a = make_arguments(lengths, c.D, c.F, c.E, dtype, dtype);
      results(a, torch::ones({tokens, c.D}));
      const int64_t bound =
          tiled_workspace_bound(tokens, c.D, c.F, c.E, dtype == torch::kFloat ? 4 : 2, 2);
      for (const bool backward : {false, true}) {
        EXPECT_GT(tiled_workspace_bytes(backward), 0);
        EXPECT_LT(tiled_workspace_bytes(backward), bound)
            << "D " << c.D << " F " << c.F << " E " << c.E << " " << dtype << " " << backward;
      }
    }
  }
  torch::set_num_threads(threads);
}

// The shapes of the table in docs/performance.md.
TEST(SlowMergedFfnWorkspace, StaysBelowItsBoundInTheBenchmark) {
  if (cpu::level().kernels == nullptr) GTEST_SKIP() << "the reference form is not counted";
  constexpr int64_t kTokens = 4096;
  const int64_t threads = torch::get_num_threads();
  for (const auto& [D, F] : {std::pair<int64_t, int64_t>{512, 1376}, {1024, 2816}}) {
    for (const auto& [E, G] : {std::pair<int64_t, int64_t>{1, 1}, {8, 16}, {8, 64}, {32, 16}}) {
      for (const auto dtype : {torch::kFloat, torch::kBFloat16}) {
        const std::vector<int64_t> lengths(G, kTokens / G);
        const Arguments arguments = make_arguments(lengths, D, F, E, dtype, dtype);
        const auto [y, a, b] = forward(arguments);
        backward(arguments, y, a, b);
        const int64_t bound =
            tiled_workspace_bound(kTokens, D, F, E, dtype == torch::kFloat ? 4 : 2, threads);
        for (const bool is_backward : {false, true}) {
          EXPECT_LT(tiled_workspace_bytes(is_backward), bound)
              << "D " << D << " E " << E << " G " << G << ' ' << dtype << ' ' << is_backward;
        }
      }
    }
  }
}

TEST(MergedFfnLevels, LargeAndTinyActivationsStayFinite) {
  Arguments a = make_arguments({20}, 16, 16, 2, torch::kFloat, torch::kFloat);
  for (const double scale : {1e4, 1e-30}) {
    a.tensors[0] = (a.tensors[0].detach() * scale).requires_grad_();
    for (const Tensor& t : results(a, torch::ones(a.tensors[0].sizes()))) {
      EXPECT_TRUE(torch::isfinite(t).all().item<bool>()) << scale;
    }
  }
}

}  // namespace
}  // namespace lorikeet::ops
