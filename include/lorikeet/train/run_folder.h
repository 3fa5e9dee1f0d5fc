#pragma once
#include <cstdint>
#include <optional>
#include <string>

namespace lorikeet {

/// What became of a run; launchers read it from status.json, since they swallow exit codes.
enum class RunState { kRunning, kPreempted, kDiverged, kFinished, kFailed };

struct RunStatus {
  RunState state = RunState::kRunning;
  int64_t step = 0;
  int64_t total_steps = 0;
  std::string message;  ///< why, for diverged and failed
};

/// The folder of one run, OUTPUT/NAME: config.yaml, log.txt, metrics.jsonl, status.json,
/// checkpoints/, tensorboard/, model/. Held by one process at a time.
class RunFolder {
 public:
  /// Makes the folder where it is missing and locks it until the object goes.
  /// @param is_owner  false for the ranks beside the first, which neither lock it nor set its
  /// status
  /// @throws Error(kUsage) where another process holds it
  explicit RunFolder(const std::string& path, bool is_owner = true);
  ~RunFolder();
  /// Whether a process holds the folder now. Makes nothing.
  static bool is_held(const std::string& path);
  /// Says in status.json that the latest start was refused, at the step where the run is: launchers
  /// and readers then do not take the state of an earlier start for this one's. Left as they are: a
  /// folder that is not there, one that another process holds, and a diverged run, which would go
  /// on by itself otherwise. Throws nothing: the refusal itself is what a user has to see.
  static void record_refusal(const std::string& path, const std::string& message);
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }

  /// None where no run has been here. @throws Error(kCheckpoint) for a file that is not a status
  std::optional<RunStatus> status() const;
  void set_status(const RunStatus& status) const;

 private:
  std::string path_;
  int lock_ = -1;
};

}  // namespace lorikeet
