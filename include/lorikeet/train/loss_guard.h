#pragma once
#include <cstdint>
#include <string>

#include "lorikeet/config/run_config.h"

namespace lorikeet {

/// Watches the loss for bad days: steps that are not finite, and spikes far outside the recent
/// spread.
class LossGuard {
 public:
  enum class Verdict { kFine, kSkipped, kSpike, kDiverged };

  explicit LossGuard(const SafetyConfig& config) : config_(config) {}

  /// @param is_finite whether loss and gradient norm were, that is whether the optimizer took the
  /// step
  Verdict judge(double loss, bool is_finite);
  int64_t skipped_in_total() const { return skipped_in_total_; }
  /// Recent mean and standard deviation of the loss, as judged against.
  double mean() const { return mean_; }
  double deviation() const;

  /// JSON, for checkpoints.
  std::string state() const;
  void load_state(const std::string& json);

 private:
  SafetyConfig config_;
  double mean_ = 0, variance_ = 0;
  int64_t observed_ = 0;
  int64_t skipped_in_a_row_ = 0, skipped_in_total_ = 0;
};

}  // namespace lorikeet
