#pragma once
#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace lorikeet {

/// What the program ends with. The same state stands in a run's status.json, since launchers
/// swallow codes.
enum class ExitCode {
  kOk = 0,
  kInternal = 1,       ///< a defect of ours, never a user's mistake
  kUsage = 2,          ///< configuration or command line
  kData = 3,           ///< corpora, token shards, token ids
  kCheckpoint = 4,     ///< model directories, weight files, checkpoints
  kDiverged = 5,       ///< training diverged; does not restart by itself
  kCommunication = 6,  ///< another rank died, is stuck, or runs something else
  kNoGo = 7,           ///< preflight: this machine is not fit for the run
  kPreempted = 75,     ///< asked to stop; resumable
};

/// An error a user can act on: one message naming the thing, the value and the rule, and one hint.
/// The program prints it as an `error:` line and a `hint:` line and exits with `code()`.
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message, std::string hint = "")
      : std::runtime_error(message), code_(code), hint_(std::move(hint)) {}

  ExitCode code() const { return code_; }
  const std::string& hint() const { return hint_; }

 private:
  ExitCode code_;
  std::string hint_;
};

}  // namespace lorikeet
