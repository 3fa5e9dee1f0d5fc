#include "lorikeet/optim/adamw.h"

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/core/temporary_folder.h"

namespace lorikeet {
namespace {

using testing::error_of;
using ::testing::HasSubstr;

const std::vector<std::pair<std::string, std::vector<int64_t>>> kShapes = {
    {"embedding", {11, 6}}, {"experts", {3, 5, 7}}, {"norm", {13}}, {"prior", {3}}, {"bias", {1}}};

NamedParameters make_parameters(torch::ScalarType dtype = torch::kFloat, uint64_t seed = 1) {
  torch::manual_seed(seed);
  NamedParameters parameters;
  for (const auto& [name, shape] : kShapes) {
    parameters.emplace_back(name, torch::randn(shape, torch::kDouble).to(dtype).requires_grad_());
  }
  return parameters;
}

void set_gradients(const NamedParameters& parameters, uint64_t seed) {
  torch::manual_seed(seed);
  for (const auto& [name, parameter] : parameters) {
    parameter.mutable_grad() =
        torch::randn(parameter.sizes(), torch::kDouble).to(parameter.dtype());
  }
}

OptimizerConfig make_config() {
  OptimizerConfig config;
  config.weight_decay = 0.3;  // large, so that a wrong decay shows
  return config;
}

void expect_equal(const NamedParameters& a, const NamedParameters& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i)
    EXPECT_TRUE(torch::equal(a[i].second, b[i].second)) << a[i].first;
}

AdamWState& state_of(AdamW& optimizer, const std::string& name) {
  for (size_t i = 0; i < kShapes.size(); ++i) {
    if (kShapes[i].first == name) return optimizer.state_at(i);
  }
  throw std::out_of_range(name);
}

TEST(AdamW, FollowsTheFormulaInDouble) {
  const NamedParameters parameters = make_parameters(torch::kDouble);
  AdamW optimizer(parameters, make_config());
  std::map<std::string, torch::Tensor> p, m, v;
  for (const auto& [name, tensor] : parameters) {
    p[name] = tensor.detach().clone();
    m[name] = v[name] = torch::zeros_like(p[name]);
  }
  for (int t = 1; t <= 5; ++t) {
    const double rate = 0.01 * t;
    set_gradients(parameters, 100 + t);
    optimizer.step(rate);
    for (const auto& [name, tensor] : parameters) {
      const torch::Tensor g = tensor.grad();
      const bool is_matrix = name == "embedding" || name == "experts";
      p[name] = p[name] * (1 - rate * (is_matrix ? 0.3 : 0.0));
      m[name] = 0.9 * m[name] + 0.1 * g;
      v[name] = 0.95 * v[name] + 0.05 * g * g;
      const torch::Tensor m_hat = m[name] / (1 - std::pow(0.9, t));
      const torch::Tensor v_hat = v[name] / (1 - std::pow(0.95, t));
      p[name] = p[name] - rate * m_hat / (v_hat.sqrt() + 1e-8);
      EXPECT_TRUE(torch::allclose(tensor, p[name], 1e-12, 1e-13)) << name << " step " << t;
    }
  }
}

TEST(AdamW, EqualsTorchsOwnToRounding) {
  const NamedParameters mine = make_parameters();
  const NamedParameters theirs = make_parameters();
  std::vector<torch::Tensor> decayed, others;
  for (const auto& [name, tensor] : theirs)
    (tensor.dim() >= 2 ? decayed : others).push_back(tensor);
  const auto options = [](double decay) {
    return std::make_unique<torch::optim::AdamWOptions>(
        torch::optim::AdamWOptions(0.02).betas({0.9, 0.95}).eps(1e-8).weight_decay(decay));
  };
  torch::optim::AdamW reference({torch::optim::OptimizerParamGroup(decayed, options(0.3)),
                                 torch::optim::OptimizerParamGroup(others, options(0.0))});
  AdamW optimizer(mine, make_config());
  for (int step = 0; step < 50; ++step) {
    set_gradients(mine, step);
    set_gradients(theirs, step);
    if (step % 7 == 3) {  // a parameter without gradient is left alone, and its step count too
      mine[1].second.mutable_grad().reset();
      theirs[1].second.mutable_grad().reset();
    }
    optimizer.step(0.02);
    reference.step();
  }
  for (size_t i = 0; i < mine.size(); ++i) {
    // 50 steps of 0.02: rounding of fp32 at the size of the values, about 1e-7 each.
    EXPECT_TRUE(torch::allclose(mine[i].second, theirs[i].second, 1e-5, 2e-6)) << mine[i].first;
  }
  EXPECT_EQ(state_of(optimizer, "experts").step.item<float>(), 43);
  EXPECT_EQ(state_of(optimizer, "norm").step.item<float>(), 50);
}

TEST(AdamW, LeavesAParameterWithoutGradientAlone) {
  const NamedParameters parameters = make_parameters();
  AdamW optimizer(parameters, make_config());
  set_gradients(parameters, 1);
  optimizer.step(0.1);
  set_gradients(parameters, 2);
  parameters[0].second.mutable_grad().reset();
  const torch::Tensor before = parameters[0].second.detach().clone();
  const torch::Tensor moment = state_of(optimizer, "embedding").exp_avg.clone();
  optimizer.step(0.1);
  EXPECT_TRUE(torch::equal(parameters[0].second, before));
  EXPECT_TRUE(torch::equal(state_of(optimizer, "embedding").exp_avg, moment));
  EXPECT_EQ(state_of(optimizer, "embedding").step.item<float>(), 1);
  EXPECT_EQ(state_of(optimizer, "experts").step.item<float>(), 2);
}

TEST(AdamW, DecaysMatricesOnly) {
  const NamedParameters parameters = make_parameters();
  const NamedParameters before = make_parameters();
  for (const auto& [name, tensor] : parameters) tensor.mutable_grad() = torch::zeros_like(tensor);
  AdamW optimizer(parameters, make_config());
  optimizer.step(0.5);
  for (size_t i = 0; i < parameters.size(); ++i) {
    const double factor = parameters[i].second.dim() >= 2 ? 1 - 0.5 * 0.3 : 1.0;
    EXPECT_TRUE(torch::allclose(parameters[i].second, before[i].second * factor, 1e-6, 0))
        << parameters[i].first;
  }
}

TEST(AdamW, ContinuesBitForBitFromItsSavedState) {
  const NamedParameters parameters = make_parameters();
  AdamW optimizer(parameters, make_config());
  const auto run = [](AdamW& which, int begin, int end) {
    for (int step = begin; step < end; ++step) {
      set_gradients(which.parameters(), step);
      which.step(0.01);
    }
  };
  run(optimizer, 0, 3);
  NamedParameters resumed_parameters;
  for (const auto& [name, tensor] : parameters) {
    resumed_parameters.emplace_back(name, tensor.detach().clone().requires_grad_());
  }
  AdamW resumed(resumed_parameters, make_config());
  for (size_t i = 0; i < parameters.size(); ++i) {
    resumed.state_at(i).exp_avg.copy_(optimizer.state_at(i).exp_avg);
    resumed.state_at(i).exp_avg_sq.copy_(optimizer.state_at(i).exp_avg_sq);
    resumed.state_at(i).step.copy_(optimizer.state_at(i).step);
  }
  run(optimizer, 3, 6);
  run(resumed, 3, 6);
  expect_equal(parameters, resumed_parameters);
}

TEST(AdamW, TakesGradientsOfAnyLayout) {
  const NamedParameters a = make_parameters(), b = make_parameters();
  set_gradients(a, 1);
  set_gradients(b, 1);
  b[0].second.mutable_grad() = b[0].second.grad().t().contiguous().t();
  AdamW first(a, make_config()), second(b, make_config());
  first.step(0.1);
  second.step(0.1);
  expect_equal(a, b);
}

TEST(AdamW, GivesTheSameBitsWithAnyNumberOfThreads) {
  const int threads_before = at::get_num_threads();
  std::vector<torch::Tensor> results;
  for (const int threads : {1, 2, 3, 7}) {
    at::set_num_threads(threads);
    torch::manual_seed(5);
    const torch::Tensor large =
        torch::randn({331, 1009}).requires_grad_();  // no multiple of anything
    AdamW optimizer({{"large", large}}, make_config());
    for (int step = 0; step < 3; ++step) {
      set_gradients(optimizer.parameters(), step);
      optimizer.step(0.01);
    }
    results.push_back(large.detach());
  }
  at::set_num_threads(threads_before);
  for (const torch::Tensor& result : results) EXPECT_TRUE(torch::equal(result, results[0]));
}

TEST(AdamW, RefusesParametersThatItsKernelCannotTake) {
  const auto refusal = [](NamedParameters parameters) {
    return error_of(ExitCode::kInternal, [&] { AdamW(std::move(parameters), make_config()); });
  };
  EXPECT_THAT(refusal({{"w", torch::ones({2, 3}).t()}}), HasSubstr("'w'"));
  EXPECT_THAT(refusal({{"w", torch::ones({2}, torch::kBFloat16)}}), HasSubstr("BFloat16 [2]"));
  EXPECT_THAT(refusal({{"a", torch::ones({2})}, {"b", torch::ones({2}, torch::kDouble)}}),
              HasSubstr("'b'"));
  EXPECT_THAT(refusal({{"a", torch::ones({2})}, {"a", torch::ones({2})}}),
              HasSubstr("given twice"));
  EXPECT_THAT(refusal({{"a", torch::ones({2}).requires_grad_() * 2}}), HasSubstr("leaf"));
}

TEST(AdamW, TakesNoParametersAtAll) {
  AdamW optimizer({}, make_config());
  optimizer.step(0.1);
  EXPECT_TRUE(optimizer.parameters().empty());
}

}  // namespace
}  // namespace lorikeet
