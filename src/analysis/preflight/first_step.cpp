// A training step of a small model, on the CPU and on the GPU.
//
// L tokens of a context.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "checks.h"
#include "lorikeet/core/cuda_backend.h"
#include "lorikeet/optim/clip.h"
#include "lorikeet/train/batch_loss.h"
#include "lorikeet/train/training_state.h"

namespace lorikeet {

namespace {

using torch::Tensor;
using Tensors = std::vector<Tensor>;

RunConfig small_model(RunConfig config) {
  ModelConfig& model = config.model;
  model.num_layers = 1;
  const int64_t segment =
      model.is_merged() ? model.feed_forward.segment_length : model.context_length / 2;
  model.context_length = std::min(model.context_length, std::max<int64_t>(2 * segment, 2));
  config.train.batch_sequences = config.train.micro_batch = 1;
  config.train.dense_warmup = Period::never();
  return config;
}

/// All of them in one, fp32, on the CPU.
Tensor flat(const Tensors& tensors) {
  Tensors parts;
  for (const Tensor& tensor : tensors) {
    parts.push_back(tensor.detach().to(torch::kCPU, torch::kFloat).reshape({-1}).clone());
  }
  return torch::cat(parts);
}

double distance(const Tensor& actual, const Tensor& expected) {
  return ((actual - expected).norm() / expected.norm()).item<double>();
}

}  // namespace

FirstStep first_step(const RunConfig& given, torch::Device device) {
  const RunConfig config = small_model(given);
  const auto world = World::single(device);
  TrainingState state(config, *world);
  torch::manual_seed(1);
  const int64_t L = config.model.context_length;
  const Tensor ids = torch::randint(config.model.vocab_size, {1, L + 1}, torch::kLong).to(device);
  const auto mean_loss = [&] {
    const BatchLoss loss =
        compute_loss(state.model, {ids.narrow(1, 0, L), ids.narrow(1, 1, L), {DocumentLengths{L}}});
    return loss.sum / static_cast<double>(L);
  };
  Tensors values, gradients;
  for (const OptimizerTensor& tensor : state.sharded->optimizer_tensors()) {
    values.push_back(tensor.values);
  }
  state.sharded->zero_grad();
  state.sharded->begin_backward(/*is_last=*/true);
  const Tensor loss = mean_loss();
  loss.backward();
  state.sharded->end_backward();
  for (const Tensor& value : values) gradients.push_back(value.grad());
  FirstStep step;
  step.loss = loss.item<double>();
  step.gradients = flat(gradients);

  const Tensor before = flat(values);
  clip_gradients(values, config.optimizer.clip_norm);
  state.optimizer->step(config.schedule.peak);
  state.sharded->publish();
  step.change = flat(values) - before;
  const torch::NoGradGuard no_graph;
  step.next_loss = mean_loss().item<double>();
  return step;
}

StepDistance distance_of(const FirstStep& actual, const FirstStep& expected) {
  return {.loss = std::max(std::abs(actual.loss - expected.loss),
                           std::abs(actual.next_loss - expected.next_loss)),
          .gradients = distance(actual.gradients, expected.gradients),
          .change = distance(actual.change, expected.change)};
}

StepDistance step_tolerance(Precision precision) {
  // A loss is some 10 nats; gradients go through twice as many roundings as an operator. AdamW's
  // first step is the sign of the gradient times the rate, so that what rounding makes of a
  // gradient near 0 changes a weight by twice that: of errors of 5% some 4% of the signs.
  if (precision == Precision::kBf16) return {.loss = 2e-2, .gradients = 5e-2, .change = 0.4};
  return {.loss = 1e-4, .gradients = 1e-3, .change = 0.06};
}

void check_first_step(Checklist& list, const RunConfig& config, torch::Device device) {
  const StepDistance most = step_tolerance(config.train.precision);
  const std::string rule =
      fmt::format("losses within {}, gradients within {}, the change of weights within {}",
                  most.loss, most.gradients, most.change);
  list.run("first step, CPU against GPU", rule, [&] {
    if (!device.is_cuda()) {
      std::string why_not;
      load_cuda_backend(&why_not);
      return skipped(why_not.empty() ? "train.device is cpu" : why_not);
    }
    const StepDistance found =
        distance_of(first_step(config, device), first_step(config, torch::kCPU));
    const double worst = std::max(
        {found.loss / most.loss, found.gradients / most.gradients, found.change / most.change});
    return judge(worst <= 1,
                 fmt::format("losses {:.1e}, gradients {:.1e}, change of weights {:.1e}",
                             found.loss, found.gradients, found.change),
                 worst);
  });
}

}  // namespace lorikeet
