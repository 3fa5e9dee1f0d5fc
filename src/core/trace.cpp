#include "lorikeet/core/trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

namespace lorikeet {

namespace {

double microseconds(std::chrono::steady_clock::duration time) {
  return std::chrono::duration<double, std::micro>(time).count();
}

}  // namespace

Trace::Span::Span(Trace& trace, std::string track, std::string name)
    : trace_(trace.is_on() ? &trace : nullptr) {
  if (!trace_) return;
  track_ = std::move(track);
  name_ = std::move(name);
  begin_ = std::chrono::steady_clock::now();
}

Trace::Span::~Span() {
  if (!trace_) return;
  const auto end = std::chrono::steady_clock::now();
  const std::lock_guard lock(trace_->mutex_);
  trace_->events_.push_back({std::move(track_), std::move(name_), begin_, end});
}

std::string Trace::to_json(int process) const {
  const std::lock_guard lock(mutex_);
  std::map<std::string, size_t> tracks;
  auto first = std::chrono::steady_clock::time_point::max();
  for (const Event& event : events_) {
    tracks.emplace(event.track, tracks.size());
    first = std::min(first, event.begin);
  }
  std::string json = "[\n";
  for (const auto& [track, id] : tracks) {
    json +=
        fmt::format(R"({{"ph":"M","name":"thread_name","pid":{},"tid":{},"args":{{"name":"{}"}}}},)"
                    "\n",
                    process, id, track);
  }
  for (const Event& event : events_) {
    json += fmt::format(R"({{"ph":"X","name":"{}","pid":{},"tid":{},"ts":{:.1f},"dur":{:.1f}}},)"
                        "\n",
                        event.name, process, tracks.at(event.track),
                        microseconds(event.begin - first), microseconds(event.end - event.begin));
  }
  json += fmt::format(R"({{"ph":"M","name":"process_name","pid":{0},"args":{{"name":"rank {0}"}}}})"
                      "\n]\n",
                      process);
  return json;
}

}  // namespace lorikeet
