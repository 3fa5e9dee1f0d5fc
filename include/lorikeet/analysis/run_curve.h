#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace lorikeet {

/// What a run's metrics.jsonl says of its course.
struct RunCurve {
  struct Step {
    double step = 0;
    double tokens = 0;   ///< trained so far
    double seconds = 0;  ///< of training steps so far; validation and checkpoints apart
    double loss = 0, first_segment_loss = 0;
  };
  struct Validation {
    double tokens = 0, seconds = 0;
    std::map<std::string, double> losses;  ///< by domain, and "mean"
  };
  std::vector<Step> steps;
  std::vector<Validation> validations;  ///< tokens grow

  double tokens_per_second() const;
  double tokens() const { return steps.empty() ? 0 : steps.back().tokens; }
  double seconds() const { return steps.empty() ? 0 : steps.back().seconds; }
  /// Mean over the steps of (tokens - window, tokens]. NaN where there are none.
  double training_loss(double tokens, double window) const;
  double first_segment_loss(double tokens, double window) const;
  /// Validation loss of a domain, straight between two validations. NaN outside of them.
  double loss_at_tokens(double tokens, const std::string& domain = "mean") const;
  double loss_at_seconds(double seconds, const std::string& domain = "mean") const;
  /// Where the mean validation loss first came down to `loss`; NaN: never.
  double tokens_until(double loss) const;
};

/// @param folder OUTPUT/NAME of a run
/// @throws Error(kUsage) where there is no run, Error(kCheckpoint) for rows that are not metrics,
/// with the line
RunCurve read_run_curve(const std::string& folder);

}  // namespace lorikeet
