#pragma once
#include <chrono>
#include <map>
#include <string>
#include <utility>

namespace lorikeet {

/// Where the time of a run goes, in this process: what training steps and validation take is work,
/// everything else keeps them waiting.
class TimeShares {
 public:
  static constexpr const char* kSteps = "steps";
  static constexpr const char* kValidation = "validation";

  void add(const std::string& what, double seconds) { seconds_[what] += seconds; }
  /// Runs `work` and adds what it takes.
  template <class Work>
  void measure(const std::string& what, Work&& work) {
    const auto start = std::chrono::steady_clock::now();
    std::forward<Work>(work)();
    add(what, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }

  /// Of all that was added, what was neither steps nor validation; 0 where nothing was.
  double stall_share() const;
  /// "steps 97.80%, validation 1.90%, checkpoints 0.20%, ..." of all, the largest first
  std::string to_text() const;

 private:
  double total() const;

  std::map<std::string, double> seconds_;
};

}  // namespace lorikeet
