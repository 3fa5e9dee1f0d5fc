#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <string>

namespace lorikeet {

/// Where the time of training steps goes, on the thread that made this object, while it lives: the
/// model's parts are the scopes that it names ("attention", "feed_forward", "head", ...; LibTorch's
/// RECORD_USER_SCOPE); a backward node belongs to the part whose forward made it.
class StepProfile {
 public:
  StepProfile();
  ~StepProfile();
  StepProfile(const StepProfile&) = delete;
  StepProfile& operator=(const StepProfile&) = delete;

  /// Seconds by "forward attention", "backward attention", "recompute attention", ...; what
  /// backward does outside of the parts is "backward rest". A part's own time: without parts inside
  /// it.
  std::map<std::string, double> seconds() const;

  struct State;

 private:
  std::unique_ptr<State> state_;
  uint64_t callback_;
};

}  // namespace lorikeet
