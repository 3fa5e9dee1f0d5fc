// A short run of the configuration in child processes: killed, resumed, measured.
#include <fmt/format.h>

#include <cmath>
#include <exception>
#include <nlohmann/json.hpp>

#include "checks.h"
#include "child_run.h"
#include "lorikeet/core/first_line.h"

namespace lorikeet {

namespace {

constexpr double kStepsASave = 4;
/// A small model's steps end between the look that finds the first checkpoint and the kill, and a
/// second checkpoint with them.
constexpr int kAttempts = 8;
/// Nats: what other orders of fp32 sums make of a loss within a few steps, with room.
constexpr double kLossTolerance = 1e-2;

/// The first rank's numbers on all.
void share(Trial& trial, ChildRun& run) {
  const nlohmann::json mine = {trial.resumed_at,        trial.killed_at,   trial.largest_difference,
                               trial.tokens_per_second, trial.peak_memory, trial.failure};
  const auto replace = nlohmann::json::error_handler_t::replace;
  const auto first = nlohmann::json::parse(run.gather(mine.dump(-1, ' ', false, replace)).front());
  trial = {first[5], first[0], first[1], first[2], first[3], first[4]};
}

/// Work of the first rank alone, of which all get the results. What it throws is the failure.
template <class Work>
void on_first(Trial& trial, ChildRun& run, const Work& work) {
  if (run.is_first() && trial.failure.empty()) {
    try {
      work();
    } catch (const std::exception& failure) {
      trial.failure = first_line(failure.what());
    }
  }
  share(trial, run);
}

}  // namespace

RunConfig trial_config(const RunConfig& config, const std::string& name) {
  RunConfig trial = config;
  trial.output = config.output + "/" + name;
  if (!trial.checkpoint.local.empty()) trial.checkpoint.local += "/" + name;
  trial.name = "trial";
  if (total_steps(config) < 1'000'000) {  // it is killed long before
    trial.train.tokens = {};
    trial.train.steps = 1'000'000;
  }
  trial.train.dense_warmup = Period::never();
  trial.checkpoint.every = Period::steps(kStepsASave);
  trial.checkpoint.keep_last = 2;
  trial.checkpoint.keep_every = trial.evaluate.every = Period::never();
  trial.log = {};
  trial.log.every = Period::steps(1);
  trial.log.tensorboard = false;
  trial.log.peak_flops = 1;  // else it is measured
  return trial;
}

Trial run_trial(const RunConfig& config, Exchange& ranks, const PreflightOptions& options) {
  ChildRun run(config, ranks, options);
  Trial trial{.failure = run.problem()};
  Course killed;
  for (int attempt = 0; attempt < kAttempts && trial.failure.empty() && trial.resumed_at == 0;
       ++attempt) {
    trial.failure = run.run_until([&] {
      const int64_t checkpoint = run.newest_checkpoint();
      return checkpoint > 0 && run.course().last() > checkpoint;
    });
    on_first(trial, run, [&] {
      killed = run.course();
      trial.killed_at = killed.last();
      trial.peak_memory = killed.peak_memory;
      const int64_t checkpoint = run.newest_checkpoint();
      if (checkpoint < trial.killed_at) trial.resumed_at = checkpoint;
    });
  }
  if (!trial.failure.empty()) return trial;
  if (trial.resumed_at == 0) {
    trial.failure = "every kill met a checkpoint: no step was left to be taken again";
    return trial;
  }
  // Until it is cut back the file ends with what the killed run has left.
  trial.failure = run.run_until([&] { return run.course().last() > trial.killed_at; });
  on_first(trial, run, [&] {
    const Comparison comparison = compare_courses(killed, run.course(), trial.resumed_at);
    trial.failure = comparison.failure;
    trial.largest_difference = comparison.largest_difference;
    trial.tokens_per_second = median_rate(killed);
  });
  return trial;
}

void check_trial(Checklist& list, const Trial& trial, const RunConfig& config, const RunPlan& plan,
                 const PreflightLimits& limits) {
  // On a GPU other modes may add in another order; on the CPU there is none.
  const bool is_exact = config.train.deterministic || config.train.device != DeviceChoice::kCuda;
  const double most = is_exact ? 0 : kLossTolerance;
  const std::string rule =
      is_exact ? "the same losses to the last bit"
               : fmt::format("the same losses within {} nats: not train.deterministic", most);
  const bool was_resumed = list.run("kill and resume", rule, [&]() -> Finding {
    if (!trial.failure.empty()) return no_go(trial.failure);
    const std::string steps =
        fmt::format("killed at step {}, resumed at {}", trial.killed_at, trial.resumed_at);
    if (trial.largest_difference == 0) return go(steps + ", the same");
    return judge(trial.largest_difference <= most,
                 fmt::format("{}, losses differ by {:.1e}", steps, trial.largest_difference));
  });
  const auto slack = static_cast<double>(limits.memory_slack);
  list.run("memory", fmt::format("at most the plan, a tenth, and {}", to_size(slack)), [&] {
    if (trial.peak_memory == 0) return skipped("no step was taken");
    const auto planned = static_cast<double>(plan.memory.total());
    const auto peak = static_cast<double>(trial.peak_memory);
    return judge(peak <= 1.1 * planned + slack,
                 fmt::format("{} in a first step, planned {}", to_size(peak), to_size(planned)));
  });
  list.run("speed", "", [&] {
    if (!was_resumed) return skipped("the run did not come so far");
    if (trial.tokens_per_second <= 0) return skipped("no step says how long it took");
    const auto tokens = static_cast<double>(total_steps(config) * tokens_per_step(config));
    return go(fmt::format("{:.0f} tokens/s; the run's {:.3g} tokens take {:.1f} hours",
                          trial.tokens_per_second, tokens,
                          tokens / trial.tokens_per_second / 3600));
  });
}

}  // namespace lorikeet
