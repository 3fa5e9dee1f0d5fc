#pragma once
#include <chrono>
#include <functional>
#include <string>

namespace lorikeet {

/// How far a long job is: one line on standard error with label, percent, detail and time left. On
/// a terminal it is redrawn in place, at most ten times a second; elsewhere a plain line is printed
/// every half minute. Not thread-safe.
class ProgressBar {
 public:
  /// @param total  what update() counts up to; 0 where it is not known
  ProgressBar(std::string label, double total);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  /// @param done    of the total
  /// @param detail  makes the text behind the percentage ("1,234 documents/s"); called only when
  /// drawn
  void update(double done, const std::function<std::string()>& detail);
  /// What was done before this process began does not count for the time left.
  void start_from(double done) { start_done_ = done; }
  /// Ends the line on a terminal.
  void finish();
  double elapsed_seconds() const;

 private:
  using Clock = std::chrono::steady_clock;
  std::string label_;
  double total_;
  double start_done_ = 0;
  bool is_terminal_;
  bool is_drawn_ = false;
  Clock::time_point start_ = Clock::now();
  Clock::time_point next_draw_;
};

/// The line itself: "tokenize   42%  1,234 documents/s  3:05 left". Time left is unknown (< 0) at
/// the start.
std::string progress_line(const std::string& label, double fraction, const std::string& detail,
                          double seconds_left);
/// 59.9 -> "0:59", 3725 -> "1:02:05".
std::string clock_time(double seconds);

}  // namespace lorikeet
