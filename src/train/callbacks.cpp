#include "lorikeet/train/callbacks.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "lorikeet/core/log.h"
#include "lorikeet/model/flops.h"
#include "lorikeet/train/device.h"

namespace lorikeet {

namespace {

double seconds_since_epoch() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

void write_scalars(TensorboardWriter& writer, const std::string& tag, const nlohmann::json& value,
                   int64_t step, double time) {
  if (value.is_number()) {
    writer.scalar(tag, value.get<double>(), step, time);
  } else if (value.is_structured()) {
    for (const auto& [key, child] : value.items()) {
      if (tag.empty() && (key == "step")) continue;
      write_scalars(writer, tag.empty() ? key : tag + "/" + key, child, step, time);
    }
  }
}

}  // namespace

MetricsSink::MetricsSink(const std::string& run_folder, bool tensorboard, int64_t last_step)
    : file_(run_folder + "/metrics.jsonl", last_step) {
  if (tensorboard) tensorboard_.emplace(run_folder + "/tensorboard", last_step + 1);
}

void MetricsSink::write(int64_t step, const nlohmann::json& row) {
  file_.write(row);
  if (tensorboard_) write_scalars(*tensorboard_, "", row, step, seconds_since_epoch());
}

LogCallback::LogCallback(const RunConfig& config, MetricsSink* sink, World& world,
                         double peak_flops)
    : sink_(sink),
      world_(world),
      clock_(config.log.every, total_steps(config), tokens_per_step(config)),
      flops_per_token_(training_flops_per_token(config.model)),
      peak_flops_(peak_flops * static_cast<double>(world.size())),
      counted_(world.mesh().monitor().counts()) {}

void LogCallback::load_state(const std::string& json) {
  routing_.load_state(json);
  if (!world_.is_first()) routing_.forget();
}

std::string LogCallback::state() {
  routing_.fold_into_first(world_);
  return routing_.state();
}

void LogCallback::after_step(const StepReport& report, TrainingState& state) {
  window_seconds_ += report.seconds;
  window_data_seconds_ += report.data_seconds;
  window_tokens_ += report.num_tokens;
  ++window_steps_;
  const bool is_due_now = is_due(report.step);
  if (clock_.is_timed()) is_next_due_ = clock_.is_due(report.step, report.clock);
  if (!is_due_now) return;
  routing_.fold_into_first(world_);
  if (sink_) {
    sink_->write(report.step, row(report, state));
  } else {
    routing_ = RoutingStatistics();
  }
  window_tokens_ = window_steps_ = 0;
  window_seconds_ = window_data_seconds_ = 0;
}

nlohmann::json LogCallback::row(const StepReport& report, const TrainingState& state) {
  const double rate = static_cast<double>(window_tokens_) / window_seconds_;
  nlohmann::json row = {{"step", report.step},
                        {"tokens", report.tokens},
                        {"loss", report.loss},
                        {"first_segment_loss", report.first_segment_loss},
                        {"grad_norm", report.grad_norm},
                        {"learning_rate", report.learning_rate},
                        {"tokens_per_second", rate},
                        {"data_share", window_data_seconds_ / window_seconds_},
                        {"skipped_steps", state.guard.skipped_in_total()},
                        {"peak_memory_bytes", peak_memory_bytes(world_.device())}};
  if (peak_flops_ > 0) row["mfu"] = rate * flops_per_token_ / peak_flops_;
  if (world_.size() > 1) {
    const auto slowest = std::max_element(report.rank_seconds.begin(), report.rank_seconds.end());
    row["rank_seconds"] = report.rank_seconds;
    row["slowest_rank"] = {{"rank", slowest - report.rank_seconds.begin()}, {"seconds", *slowest}};
    row["bytes_sent"] = communication();
  }
  if (nlohmann::json routing = routing_.report(); !routing.is_null()) {
    if (state.sharded->stage() < 3) {  // else no rank has two whole experts
      state.sharded->while_gathered(
          [&] { routing["expert_distance"] = largest_expert_distances(*state.model); });
    }
    routing["router_grad_norm"] = report.router_gradient_norms;
    row["routing"] = std::move(routing);
  }
  return row;
}

/// Bytes that this rank sends a step, by group and collective; what it sent for validation and
/// checkpoints since the last row is in the mean.
nlohmann::json LogCallback::communication() {
  nlohmann::json bytes = nlohmann::json::object();
  const auto counts = world_.mesh().monitor().counts();
  for (const auto& [kind, count] : counts) {
    if (count.bytes_sent == 0) continue;
    bytes[kind] =
        (count.bytes_sent - counted_[kind].bytes_sent) / std::max<int64_t>(1, window_steps_);
  }
  counted_ = counts;
  return bytes;
}

ProgressCallback::ProgressCallback(const std::string& name, int64_t first_step, int64_t total_steps)
    : bar_(name, static_cast<double>(total_steps)) {
  bar_.start_from(static_cast<double>(first_step));
}

void ProgressCallback::after_step(const StepReport& report, TrainingState&) {
  const double now = static_cast<double>(report.num_tokens) / report.seconds;
  tokens_per_second_ = tokens_per_second_ == 0 ? now : 0.9 * tokens_per_second_ + 0.1 * now;
  bar_.update(static_cast<double>(report.step), [&] {
    return fmt::format("step {}  loss {:.4f}  {} tokens/s", report.step, report.loss,
                       with_separators(static_cast<int64_t>(tokens_per_second_)));
  });
}

ValidationCallback::ValidationCallback(const RunConfig& config, const Dataset& dataset,
                                       MetricsSink* sink, World& world)
    : sink_(sink),
      world_(world),
      set_(dataset, config.model.context_length,
           config.evaluate.batches * config.train.micro_batch),
      clock_(config.evaluate.every, total_steps(config), tokens_per_step(config)),
      micro_batch_(config.train.micro_batch) {}

void ValidationCallback::after_step(const StepReport& report, TrainingState& state) {
  if (clock_.is_due(report.step, report.clock)) run(state);
}

void ValidationCallback::at_end(TrainingState& state) {
  if (last_step_ != state.step) run(state);
}

void ValidationCallback::recall(int64_t step, const nlohmann::json& losses) {
  DomainLosses recalled;
  const auto take = [&](const std::string& domain) {
    const bool is_there = losses.contains(domain);
    // What was not finite is null in the file.
    if (is_there)
      recalled.emplace_back(domain, losses[domain].is_null() ? NAN : losses[domain].get<double>());
    return is_there;
  };
  for (size_t domain = 0; domain < set_.num_domains(); ++domain) {
    if (!take(set_.domain_name(domain))) return;
  }
  if (!recalled.empty() && !take("mean")) return;
  latest_ = recalled;
  last_step_ = step;
}

void ValidationCallback::run(TrainingState& state) {
  last_step_ = state.step;
  latest_ = validate(state.model, set_, micro_batch_, world_);
  state.sharded->release();
  if (!sink_) return;
  nlohmann::json losses = nlohmann::json::object();
  std::string line;
  for (const auto& [domain, loss] : latest_) {
    losses[domain] = loss;
    line += fmt::format("  {} {:.4f}", domain, loss);
  }
  sink_->write(state.step, {{"step", state.step}, {"validation", losses}});
  log_info("step {}: validation loss{}", state.step, line.empty() ? "  (no held-out text)" : line);
}

}  // namespace lorikeet
