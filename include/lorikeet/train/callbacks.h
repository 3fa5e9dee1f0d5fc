#pragma once
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "lorikeet/core/progress.h"
#include "lorikeet/train/callback.h"
#include "lorikeet/train/metrics_file.h"
#include "lorikeet/train/period_clock.h"
#include "lorikeet/train/tensorboard.h"
#include "lorikeet/train/validation.h"

namespace lorikeet {

/// RUN/metrics.jsonl and RUN/tensorboard/: rows of numbers under a step.
class MetricsSink {
 public:
  MetricsSink(const std::string& run_folder, bool tensorboard, int64_t last_step);
  /// Objects nest in the file; TensorBoard gets each number as a scalar "a/b/0".
  void write(int64_t step, const nlohmann::json& row);

 private:
  MetricsFile file_;
  std::optional<TensorboardWriter> tensorboard_;
};

/// Logs the step's numbers, what the routers do, speed and memory.
class LogCallback : public Callback {
 public:
  /// @param peak_flops of the device, for MFU; 0: left out
  /// @param sink  null but on the first rank
  LogCallback(const RunConfig& config, MetricsSink* sink, World& world, double peak_flops);
  void after_step(const StepReport& report, TrainingState& state) override;
  /// Adds what the routers did in one micro-batch.
  void observe(const std::vector<RoutingRecord>& routing) { routing_.add(routing); }
  /// Known before the step: it then does what is only done for the log.
  bool is_due(int64_t step) const {
    return clock_.is_timed() ? is_next_due_ : clock_.is_due_at(step);
  }
  std::string name() const override { return "log"; }
  std::string state() override;
  void load_state(const std::string& json) override;

 private:
  nlohmann::json row(const StepReport& report, const TrainingState& state);
  nlohmann::json communication();

  MetricsSink* sink_;
  World& world_;
  PeriodClock clock_;
  bool is_next_due_ = false;  // where the period is in seconds: found at the end of a step
  double flops_per_token_, peak_flops_;
  RoutingStatistics routing_;
  std::map<std::string, CollectiveCount> counted_;  // at the last row
  int64_t window_tokens_ = 0, window_steps_ = 0;
  double window_seconds_ = 0, window_data_seconds_ = 0;
};

/// One line on the terminal: loss, rate, time left.
class ProgressCallback : public Callback {
 public:
  ProgressCallback(const std::string& name, int64_t first_step, int64_t total_steps);
  void after_step(const StepReport& report, TrainingState& state) override;
  void at_end(TrainingState&) override { bar_.finish(); }

 private:
  ProgressBar bar_;
  double tokens_per_second_ = 0;
};

/// Loss by domain on the held-out documents, now and then and at the end.
class ValidationCallback : public Callback {
 public:
  /// @param sink  null but on the first rank
  ValidationCallback(const RunConfig& config, const Dataset& dataset, MetricsSink* sink,
                     World& world);
  void after_step(const StepReport& report, TrainingState& state) override;
  void at_end(TrainingState& state) override;
  /// Takes over losses that were found after `step` before the run was started again. Those that
  /// lack a domain are not taken.
  void recall(int64_t step, const nlohmann::json& losses);
  const DomainLosses& latest() const { return latest_; }

 private:
  void run(TrainingState& state);

  MetricsSink* sink_;
  World& world_;
  ValidationSet set_;
  PeriodClock clock_;
  int64_t micro_batch_;
  int64_t last_step_ = -1;
  DomainLosses latest_;
};

}  // namespace lorikeet
