#include "lorikeet/parallel/collective_monitor.h"

#include <fmt/format.h>

#include <utility>

namespace lorikeet {

CollectiveMonitor::Scope::Scope(CollectiveMonitor& monitor, const std::string& group,
                                const std::string& kind, const std::string& label,
                                int64_t bytes_sent)
    : monitor_(monitor), span_(monitor.trace_, group, kind + " " + label) {
  const std::lock_guard lock(monitor.mutex_);
  id_ = monitor.next_id_++;
  CollectiveCount& count = monitor.counts_[group + "/" + kind];
  ++count.calls;
  count.bytes_sent += bytes_sent;
  const std::string what = label.empty() ? kind : kind + " of " + label;
  auto& [sequence, latest] = monitor.begun_[group];
  ++sequence;
  latest = what;
  monitor.running_[id_] = {group, what, sequence, std::chrono::steady_clock::now()};
  if (monitor.is_recording_) {
    monitor.recorded_.push_back(fmt::format("{}/{} {} {}", group, kind, label, bytes_sent));
  }
}

CollectiveMonitor::Scope::~Scope() {
  const std::lock_guard lock(monitor_.mutex_);
  monitor_.running_.erase(id_);
}

std::map<std::string, CollectiveCount> CollectiveMonitor::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

std::optional<CollectiveInFlight> CollectiveMonitor::oldest() const {
  const std::lock_guard lock(mutex_);
  if (running_.empty()) return std::nullopt;
  const Running& running = running_.begin()->second;  // ids grow with time
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - running.since;
  return CollectiveInFlight{running.group, running.what, running.sequence, elapsed.count()};
}

std::map<std::string, std::pair<int64_t, std::string>> CollectiveMonitor::begun() const {
  const std::lock_guard lock(mutex_);
  return begun_;
}

std::vector<std::string> CollectiveMonitor::recorded() const {
  const std::lock_guard lock(mutex_);
  return recorded_;
}

void CollectiveMonitor::explain_failures_by(std::function<std::string()> explain) {
  const std::lock_guard lock(mutex_);
  explain_ = std::move(explain);
}

std::string CollectiveMonitor::explain_failure() const {
  std::unique_lock lock(mutex_);
  const auto explain = explain_;
  lock.unlock();
  return explain ? explain() : "";
}

}  // namespace lorikeet
