// P ranks of a group, n elements a rank.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "checks.h"
#include "lorikeet/core/measure.h"

namespace lorikeet {

namespace {

constexpr int kRepetitions = 3;  ///< the best counts, after one that isn't timed

/// Elements that a rank holds of a block's unit: what a run sends at once, within bounds.
int64_t elements_of(const RunConfig& config, int64_t ranks) {
  const int64_t block = count_parameters(config.model).total() / config.model.num_layers;
  return std::clamp<int64_t>(block / ranks, 1 << 16, 1 << 26);
}

/// A collective on tensors of its own, which every rank fills with its number, from 1.
struct Exercise {
  const char* name;
  torch::Tensor given, result;
  std::function<void()> run;
  torch::Tensor expected;  ///< spreads over `result`
  int64_t bytes_sent;
};

std::vector<Exercise> exercises(Communicator& group, Communicator& reduce, int64_t n,
                                torch::Device device) {
  const int64_t P = group.size(), bytes = 4 * n * (P - 1);
  const auto options = torch::TensorOptions(device).dtype(torch::kFloat);
  const auto own = torch::empty({n}, options), all = torch::empty({P, n}, options);
  const auto numbers = torch::arange(1, P + 1, options).view({P, 1});
  const auto sum = torch::full({}, static_cast<double>(P * (P + 1) / 2), options);
  const std::string label = "preflight";
  return {{"all_reduce", all, all, [=, &reduce] { reduce.all_reduce(all, label); }, sum, 2 * bytes},
          {"reduce_scatter", all, own,
           [=, &reduce] { reduce.reduce_scatter(own, all.view({-1}), label); }, sum, bytes},
          {"all_gather", own, all, [=, &group] { group.all_gather(all.view({-1}), own, label); },
           numbers, bytes}};
}

Finding measure(const Exercise& exercise, Communicator& group, double least) {
  bool is_right = true;
  double best = 1e30;
  for (int i = 0; i <= kRepetitions; ++i) {
    exercise.given.fill_(static_cast<double>(group.rank() + 1));
    group.barrier("preflight");
    const auto start = std::chrono::steady_clock::now();
    exercise.run();
    exercise.result.view({-1})[0].item<float>();  // waits for a GPU
    if (i > 0) best = std::min(best, seconds_since(start));
    is_right &= exercise.result.eq(exercise.expected).all().item<bool>();
  }
  if (!is_right) return no_go("a wrong result", 1e300);
  const double rate = static_cast<double>(exercise.bytes_sent) / best;
  return judge(rate >= least,
               fmt::format("{}/s sent a rank: {} in {:.1f} ms", to_size(rate),
                           to_size(static_cast<double>(exercise.bytes_sent)), 1e3 * best),
               -rate);
}

}  // namespace

void check_collectives(Checklist& list, const RunConfig& config, World& world,
                       const PreflightLimits& limits) {
  if (world.size() == 1) {
    list.add({.name = "collectives", .verdict = Verdict::kSkipped, .figure = "one rank"});
    return;
  }
  const std::string rule =
      "right" +
      (limits.bandwidth > 0 ? fmt::format(", at least {}/s", to_size(limits.bandwidth)) : "");
  DeviceMesh& mesh = world.mesh();
  const auto axis = [&](const std::string& name, Communicator& group, Communicator& reduce) {
    if (group.size() == 1) return;  // the same on all ranks
    for (const Exercise& exercise :
         exercises(group, reduce, elements_of(config, group.size()), mesh.device())) {
      list.run(fmt::format("{} {}", name, exercise.name), rule,
               [&] { return measure(exercise, group, limits.bandwidth); });
    }
  };
  axis("shard", mesh.gather(), mesh.reduce());
  axis("replicate", mesh.replicate(), mesh.replicate());
  // Where an axis is the whole world it has been measured.
  if (mesh.shape().shard > 1 && mesh.shape().replicate > 1)
    axis("world", mesh.world(), mesh.world());
}

}  // namespace lorikeet
