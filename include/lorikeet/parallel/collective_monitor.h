#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "lorikeet/core/trace.h"

namespace lorikeet {

/// What one kind of collective has cost this rank so far.
struct CollectiveCount {
  int64_t calls = 0;
  int64_t bytes_sent = 0;  ///< tensors' bytes that left this rank; framing is not counted
};

/// A collective that was begun and has not ended.
struct CollectiveInFlight {
  std::string group, what;
  int64_t sequence = 0;  ///< how many this rank had begun in that group, this one included
  double seconds = 0;    ///< since it began
};

/// The collectives of one process: which run now, what they sent. Thread-safe.
class CollectiveMonitor {
 public:
  /// One collective, from construction to destruction.
  class Scope {
   public:
    /// @param group  name of the group of ranks
    /// @param kind   all_gather | reduce_scatter | all_reduce | ...
    /// @param label  what is exchanged, such as "layers.3"
    Scope(CollectiveMonitor& monitor, const std::string& group, const std::string& kind,
          const std::string& label, int64_t bytes_sent);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    CollectiveMonitor& monitor_;
    int64_t id_;
    Trace::Span span_;
  };

  /// By "group/kind" since the start.
  std::map<std::string, CollectiveCount> counts() const;
  /// The one that runs longest.
  std::optional<CollectiveInFlight> oldest() const;
  /// By group: how many were begun, and the last one.
  std::map<std::string, std::pair<int64_t, std::string>> begun() const;
  /// Every collective in order, "group/kind label bytes", once `record` was switched on: for
  /// rehearsals.
  void record() { is_recording_ = true; }
  std::vector<std::string> recorded() const;
  /// @param explain  says why a collective may have failed; it may take seconds, in any thread
  void explain_failures_by(std::function<std::string()> explain);
  /// What is known of the cause of a failed collective; often nothing.
  std::string explain_failure() const;
  /// Collectives are spans of it, on a track by the group's name.
  Trace& trace() { return trace_; }

 private:
  struct Running {
    std::string group, what;
    int64_t sequence;
    std::chrono::steady_clock::time_point since;
  };
  Trace trace_;
  mutable std::mutex mutex_;
  std::map<std::string, CollectiveCount> counts_;
  std::map<int64_t, Running> running_;
  std::map<std::string, std::pair<int64_t, std::string>> begun_;
  std::vector<std::string> recorded_;
  std::function<std::string()> explain_;
  bool is_recording_ = false;
  int64_t next_id_ = 0;
};

}  // namespace lorikeet
