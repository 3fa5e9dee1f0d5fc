#pragma once
#include <atomic>
#include <chrono>
#include <mutex>
#include <string>
#include <vector>

namespace lorikeet {

/// The track of the thread that trains.
inline constexpr const char* kComputeTrack = "compute";

/// What ran when, on which track, for chrome://tracing or ui.perfetto.dev. Costs one comparison
/// while it is off. Thread-safe.
class Trace {
 public:
  /// From construction to destruction. @param track  a row of the picture, such as "compute"
  class Span {
   public:
    Span(Trace& trace, std::string track, std::string name);
    ~Span();
    Span(const Span&) = delete;
    Span& operator=(const Span&) = delete;

   private:
    Trace* trace_;  // null while the trace is off
    std::string track_, name_;
    std::chrono::steady_clock::time_point begin_;
  };

  void start() { is_on_ = true; }
  void stop() { is_on_ = false; }
  bool is_on() const { return is_on_; }
  /// Chrome's trace format: complete events, microseconds since the first.
  /// @param process  a number for the process, such as its rank
  std::string to_json(int process) const;

 private:
  struct Event {
    std::string track, name;
    std::chrono::steady_clock::time_point begin, end;
  };
  std::atomic<bool> is_on_{false};
  mutable std::mutex mutex_;
  std::vector<Event> events_;
};

}  // namespace lorikeet
