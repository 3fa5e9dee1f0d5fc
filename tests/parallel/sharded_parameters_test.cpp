// U units, D width, B rows a rank.
#include "lorikeet/parallel/sharded_parameters.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <functional>
#include <map>
#include <set>

#include "lorikeet/core/error.h"
#include "lorikeet/ops/merged_linear.h"
#include "tests/parallel/ranks.h"
#include "tests/support/tensor_memory.h"

namespace lorikeet {
namespace {

constexpr int64_t kUnits = 4, kWidth = 37, kRows = 3;

/// A chain of tanh layers, every second one by a tiled operator, which writes its weight's gradient
/// in place; the last unit's parameters are used in every second forward pass alone.
struct Chain {
  std::vector<ParameterUnit> units;

  Chain() {
    at::Generator generator = at::detail::createCPUGenerator(7);
    for (int64_t u = 0; u < kUnits; ++u) {
      const std::string name = "layers." + std::to_string(u);
      at::Tensor weight = at::randn({kWidth, kWidth}, generator) * 0.3;
      at::Tensor bias = at::randn({kWidth}, generator) * 0.1;
      units.push_back({name,
                       {{name + ".bias", bias.requires_grad_(true), 1},
                        {name + ".weight", weight.requires_grad_(true), 0}},
                       u + 1 == kUnits});
    }
  }

  const at::Tensor& bias(int64_t u) const { return units[u].parameters[0].leaf; }
  const at::Tensor& weight(int64_t u) const { return units[u].parameters[1].leaf; }

  at::Tensor multiply(const at::Tensor& x, int64_t u) const {
    if (u % 2 == 0) return at::linear(x, weight(u));
    return ops::merged_linear(x, {0, x.size(0)}, at::ones({1, 1}), weight(u).unsqueeze(0));
  }

  /// @param see  called with each unit while its parameters are there
  at::Tensor loss(at::Tensor x, UnitSchedule* schedule, bool uses_last,
                  const std::function<void(int64_t)>& see = nullptr) const {
    for (int64_t u = 0; u < kUnits; ++u) {
      if (schedule) schedule->before_forward(u);
      if (see) see(u);
      if (u + 1 < kUnits || uses_last) x = at::tanh(multiply(x, u) + bias(u));
      if (schedule) schedule->after_forward(u, x);
    }
    return x.square().sum();
  }
};

at::Tensor input(int64_t step, int64_t sample) {
  at::Generator generator = at::detail::createCPUGenerator(1000 * step + sample);
  return at::randn({kRows, kWidth}, generator);
}

/// One process, samples in order: gradients and parameters after each step, by name.
struct Reference {
  std::vector<std::map<std::string, at::Tensor>> gradients;
  std::map<std::string, at::Tensor> values;
};

bool uses_last(int64_t sample, bool skips) { return !skips || sample % 2 == 0; }

Reference run_plainly(int64_t steps, int64_t samples, bool skips) {
  Chain chain;
  Reference reference;
  for (int64_t step = 0; step < steps; ++step) {
    for (int64_t i = 0; i < samples; ++i) {
      torch::autograd::backward({chain.loss(input(step, i), nullptr, uses_last(i, skips))}, {});
    }
    auto& gradients = reference.gradients.emplace_back();
    const at::NoGradGuard no_grad;
    for (auto& unit : chain.units) {
      for (auto& [name, parameter, group] : unit.parameters) {
        gradients[name] = parameter.grad().clone();
        parameter.sub_(parameter.grad(), 0.05);
        parameter.mutable_grad().reset();
        reference.values[name] = parameter.detach().clone();
      }
    }
  }
  return reference;
}

struct Layout {
  MeshShape shape;
  int stage;
  int64_t micro_batches;  // of one sample each, a rank
};

void expect_near(const at::Tensor& found, const at::Tensor& expected, bool is_exact,
                 const std::string& what) {
  if (is_exact) {
    EXPECT_TRUE(at::equal(found, expected)) << what;
  } else {
    // Sums of up to eight terms in fp32 in another order, over three steps: some roundings of the
    // largest terms, which may cancel.
    const double bound = 1e-5 * expected.abs().max().item<double>();
    EXPECT_TRUE(at::allclose(found, expected, 0, bound))
        << what << " differs by " << (found - expected).abs().max().item<float>();
  }
}

void check_layout(const Layout& layout, bool skips) {
  constexpr int64_t kSteps = 3;
  const int64_t world = layout.shape.replicate * layout.shape.shard;
  const Reference reference = run_plainly(kSteps, world * layout.micro_batches, skips);
  // One sample a rank, and one level of sums: then they are added in the order of the samples.
  const bool is_exact =
      layout.micro_batches == 1 && (layout.shape.replicate == 1 || layout.shape.shard == 1);
  run_ranks(static_cast<int>(world), [&](int rank, const auto& store) {
    const auto mesh = make_mesh(store, rank, layout.shape);
    Chain chain;
    ShardedParameters sharded(chain.units, layout.stage, *mesh);
    for (int64_t step = 0; step < kSteps; ++step) {
      sharded.zero_grad();
      for (int64_t micro = 0; micro < layout.micro_batches; ++micro) {
        const int64_t sample = rank * layout.micro_batches + micro;
        sharded.begin_backward(micro + 1 == layout.micro_batches);
        torch::autograd::backward(
            {chain.loss(input(step, sample), &sharded, uses_last(sample, skips))}, {});
        sharded.end_backward();
      }
      for (const ParameterPiece& piece : sharded.pieces()) {
        const at::Tensor gradient = sharded.optimizer_tensors()[piece.tensor].values.grad().narrow(
            0, piece.offset, piece.numel);
        const at::Tensor expected =
            reference.gradients[step].at(piece.name).flatten().narrow(0, piece.begin, piece.numel);
        expect_near(gradient, expected, is_exact, fmt::format("step {} {}", step, piece.name));
      }
      const at::NoGradGuard no_grad;
      for (const OptimizerTensor& tensor : sharded.optimizer_tensors()) {
        at::Tensor values = tensor.values;
        values.sub_(values.grad(), 0.05);
      }
      sharded.publish();
    }
    sharded.while_gathered([&] {
      for (const auto& unit : chain.units) {
        for (const auto& [name, parameter, group] : unit.parameters) {
          expect_near(parameter.detach(), reference.values.at(name), is_exact, name);
        }
      }
    });
  });
}

class EveryLayout : public testing::TestWithParam<Layout> {};

TEST_P(EveryLayout, HasTheGradientsAndStepsOfOneProcess) { check_layout(GetParam(), false); }

TEST_P(EveryLayout, TakesAParameterWithoutAGradientAsZero) { check_layout(GetParam(), true); }

INSTANTIATE_TEST_SUITE_P(
    ShardedParameters, EveryLayout,
    testing::Values(Layout{{1, 1}, 0, 1}, Layout{{1, 1}, 3, 3}, Layout{{2, 1}, 0, 1},
                    Layout{{2, 1}, 0, 2}, Layout{{3, 1}, 0, 1}, Layout{{1, 2}, 1, 1},
                    Layout{{1, 2}, 1, 3}, Layout{{1, 2}, 2, 1}, Layout{{1, 2}, 2, 3},
                    Layout{{1, 2}, 3, 1}, Layout{{1, 2}, 3, 3}, Layout{{1, 4}, 1, 1},
                    Layout{{1, 4}, 2, 2}, Layout{{1, 4}, 3, 2}, Layout{{1, 3}, 3, 1},
                    Layout{{2, 2}, 1, 2}, Layout{{2, 2}, 2, 1}, Layout{{2, 2}, 3, 2}),
    [](const auto& info) {
      return fmt::format("Replicate{}Shard{}Zero{}Micro{}", info.param.shape.replicate,
                         info.param.shape.shard, info.param.stage, info.param.micro_batches);
    });

TEST(ShardedParameters, TakeATiledOperatorsGradientInPlace) {
  run_ranks(1, [&](int rank, const auto& store) {
    const auto mesh = make_mesh(store, rank, {1, 1});
    Chain chain;
    ShardedParameters sharded(chain.units, 0, *mesh);
    std::vector<bool> by_autograd(kUnits);
    for (int64_t u = 0; u < kUnits; ++u) {
      chain.weight(u).register_hook(
          [&, u](const at::Tensor& gradient) { by_autograd[u] = gradient.defined(); });
    }
    const auto backward = [&](const at::Tensor& loss) { torch::autograd::backward({loss}, {}); };
    sharded.zero_grad();
    sharded.begin_backward(true);
    backward(chain.loss(input(0, 0), nullptr, true));
    sharded.end_backward();
    EXPECT_EQ(by_autograd, (std::vector<bool>{true, false, true, false}));
    backward(chain.loss(input(0, 0), nullptr, true));  // not a step's
    EXPECT_EQ(by_autograd, std::vector<bool>(kUnits, true));
    sharded.zero_grad();
    sharded.begin_backward(true);
    const at::Tensor twice = chain.multiply(chain.multiply(input(0, 0), 1), 1);
    EXPECT_THROW(backward(twice.sum()), Error);
  });
}

TEST(ShardedParameters, StageThreeHoldsNoParametersBetweenSteps) {
  run_ranks(2, [&](int rank, const auto& store) {
    const auto mesh = make_mesh(store, rank, {1, 2});
    Chain chain;
    ShardedParameters sharded(chain.units, 3, *mesh);
    const auto held = [&] {
      size_t bytes = 0;
      for (const auto& unit : chain.units) {
        bytes += unit.parameters[0].leaf.storage().nbytes();
      }
      return bytes;
    };
    EXPECT_EQ(held(), 0U);
    sharded.zero_grad();
    sharded.begin_backward(true);
    const at::Tensor loss = chain.loss(input(0, rank), &sharded, true);
    const size_t one = static_cast<size_t>(sharded.padded_numel(0)) * sizeof(float);
    EXPECT_EQ(held(), one);  // the last unit's, which stays
    torch::autograd::backward({loss}, {});
    sharded.end_backward();
    EXPECT_EQ(held(), 0U);
    {
      const at::NoGradGuard no_grad;
      chain.loss(input(0, rank), &sharded, true);
    }
    sharded.release();
    EXPECT_EQ(held(), 0U);
  });
}

/// Of units of one size: two places for whole parameters and one for the unit that stays, two for
/// gradients, which change their roles. After one step no memory of a unit's size is asked for any
/// more.
TEST(ShardedParameters, WholeUnitsShareMemoryThatIsAllocatedOnce) {
  run_ranks(2, [&](int rank, const auto& store) {
    const auto mesh = make_mesh(store, rank, {1, 2});
    Chain chain;
    ShardedParameters sharded(chain.units, 3, *mesh);
    std::set<const void*> places;
    const auto step = [&](int64_t number) {
      sharded.zero_grad();
      for (const bool is_last : {false, true}) {
        sharded.begin_backward(is_last);
        const at::Tensor loss = chain.loss(input(number, rank), &sharded, true, [&](int64_t unit) {
          places.insert(chain.units[unit].parameters[0].leaf.storage().data());
        });
        torch::autograd::backward({loss}, {});
        sharded.end_backward();
      }
    };
    step(0);
    const int64_t one = sharded.padded_numel(0) * static_cast<int64_t>(sizeof(float));
    const TensorMemory memory(one);
    for (int64_t number = 1; number < 4; ++number) step(number);
    EXPECT_EQ(memory.num_watched(), 0);
    EXPECT_LE(memory.bytes(), 0) << "nothing is kept";
    EXPECT_LE(places.size(), 5U);
  });
}

/// docs/parallel.md, "What crosses the wire", for S = 4 ranks and k micro-batches.
TEST(ShardedParameters, SendsWhatTheFormulasSay) {
  for (const int stage : {1, 2, 3}) {
    constexpr int64_t kMicroBatches = 2;
    run_ranks(4, [&](int rank, const auto& store) {
      const auto mesh = make_mesh(store, rank, {1, 4});
      Chain chain;
      ShardedParameters sharded(chain.units, stage, *mesh);
      sharded.zero_grad();
      for (int64_t micro = 0; micro < kMicroBatches; ++micro) {
        sharded.begin_backward(micro + 1 == kMicroBatches);
        torch::autograd::backward({chain.loss(input(0, rank), &sharded, true)}, {});
        sharded.end_backward();
      }
      sharded.publish();
      sharded.while_gathered([] {});
      const int64_t n = kUnits * sharded.padded_numel(0) * 4, part = n * 3 / 4;
      auto counts = mesh->monitor().counts();
      EXPECT_EQ(counts["reduce/reduce_scatter"].bytes_sent,
                (stage == 1 ? 1 : kMicroBatches) * part);
      const int64_t one_unit = part / kUnits;
      // Stage 3: forward and backward, but the last unit stays; then once more to look at all.
      const int64_t gathers = stage == 3 ? kMicroBatches * (2 * part - one_unit) + part : part;
      EXPECT_EQ(counts["gather/all_gather"].bytes_sent, gathers) << "stage " << stage;
    });
  }
}

}  // namespace
}  // namespace lorikeet
