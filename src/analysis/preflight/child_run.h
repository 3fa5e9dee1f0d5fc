#pragma once
#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "child_process.h"
#include "course.h"
#include "lorikeet/analysis/preflight.h"
#include "lorikeet/parallel/exchange.h"
#include "lorikeet/train/signals.h"
#include "scratch.h"

namespace lorikeet {

/// A short run of a configuration in child processes, one a rank, in a hidden folder beside the
/// run's. Used on all ranks together; while one lives, SIGTERM and SIGINT to a rank are answered by
/// all of them with Error(kPreempted), and what lies on disk is gone with the object.
class ChildRun {
 public:
  /// What cannot be made is told by problem(), on all ranks.
  ChildRun(const RunConfig& config, Exchange& ranks, const PreflightOptions& options);

  /// Empty, or why there is nothing to run in.
  const std::string& problem() const { return problem_; }

  /// Starts all ranks and kills them with SIGKILL as soon as the first one has come far enough.
  /// @param is_far_enough  asked on the first rank alone; what it throws is a failure
  /// @return empty, or why it has not; the same on all ranks
  std::string run_until(const std::function<bool()>& is_far_enough);

  /// Of the ranks, each other's texts.
  std::vector<std::string> gather(const std::string& mine);
  bool is_first() const { return ranks_.rank() == 0; }

  // For the first rank.
  Course course() const;
  int64_t newest_checkpoint() const;  ///< its step; 0: none

 private:
  struct Beat;
  Beat beat(std::optional<ChildProcess>& child, const std::function<bool()>& is_far_enough,
            std::chrono::steady_clock::time_point start);
  void start(std::optional<ChildProcess>& child, const std::string& meeting);

  Exchange& ranks_;
  const PreflightOptions& options_;
  SignalWatch signals_;
  std::optional<ScratchFolder> scratch_, local_;
  std::string run_, config_, problem_;
  int starts_ = 0;
};

}  // namespace lorikeet
