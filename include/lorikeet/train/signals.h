#pragma once

namespace lorikeet {

/// SIGTERM and SIGINT ask the run to finish its step, checkpoint and leave; SIGUSR1 asks for a
/// checkpoint. A second SIGINT ends the process at once. Handlers stand while an object lives.
class SignalWatch {
 public:
  SignalWatch();
  ~SignalWatch();
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;

  bool stop_requested() const;
  /// True once for each SIGUSR1 since the last call.
  bool take_checkpoint_request();
};

}  // namespace lorikeet
