#include "lorikeet/core/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace lorikeet {

namespace {
using std::chrono::milliseconds;
constexpr milliseconds kTerminalInterval{100};
constexpr milliseconds kPlainInterval{30'000};
}  // namespace

std::string clock_time(double seconds) {
  const auto whole = static_cast<long long>(std::clamp(seconds, 0.0, 3.6e9));
  if (whole < 3600) {
    return fmt::format("{}:{:02}", whole / 60, whole % 60);
  }
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

std::string progress_line(const std::string& label, double fraction, const std::string& detail,
                          double seconds_left) {
  std::string line = label;
  if (fraction >= 0) {
    line += fmt::format(" {:3.0f}%", std::min(fraction, 1.0) * 100);
  }
  if (!detail.empty()) {
    line += "  " + detail;
  }
  if (seconds_left >= 0) {
    line += fmt::format("  {} left", clock_time(seconds_left));
  }
  return line;
}

ProgressBar::ProgressBar(std::string label, double total)
    : label_(std::move(label)),
      total_(total),
      is_terminal_(::isatty(STDERR_FILENO) == 1),
      next_draw_(start_ + (is_terminal_ ? kTerminalInterval : kPlainInterval)) {}

ProgressBar::~ProgressBar() { finish(); }

double ProgressBar::elapsed_seconds() const {
  return std::chrono::duration<double>(Clock::now() - start_).count();
}

void ProgressBar::update(double done, const std::function<std::string()>& detail) {
  const auto now = Clock::now();
  if (now < next_draw_) {
    return;
  }
  next_draw_ = now + (is_terminal_ ? kTerminalInterval : kPlainInterval);
  const double gained = done - start_done_;
  const bool is_known = total_ > 0 && gained > 0;
  const double left = is_known ? elapsed_seconds() * std::max(0.0, total_ - done) / gained : -1;
  const double fraction = total_ > 0 ? done / total_ : -1;
  const std::string line = progress_line(label_, fraction, detail(), left);
  // \033[K clears what a longer line left behind.
  const std::string text = is_terminal_ ? "\r" + line + "\033[K" : line + "\n";
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
  is_drawn_ = is_terminal_;
}

void ProgressBar::finish() {
  if (is_drawn_) {
    std::fputs("\n", stderr);
    is_drawn_ = false;
  }
}

}  // namespace lorikeet
