#pragma once
#include <fmt/format.h>

#include <string>
#include <string_view>

namespace lorikeet {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

/// Writes one line to standard error, and to the log file once one was opened. Thread-safe.
void log_line(LogLevel level, std::string_view line);
/// Lines below `level` are dropped. Default: kInfo.
void set_log_level(LogLevel level);
/// From now on lines also go to `path` (appended to), with time stamps.
void open_log_file(const std::string& path);

template <class... Args>
void log_debug(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::kDebug, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::kInfo, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::kWarning, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_error(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::kError, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace lorikeet
