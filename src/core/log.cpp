#include "lorikeet/core/log.h"

namespace lorikeet {

namespace spdlog_sink {  // spdlog_sink.cpp
void write(int level, std::string_view line);
void set_level(int level);
void open_file(const std::string& path);
}  // namespace spdlog_sink

void log_line(LogLevel level, std::string_view line) {
  spdlog_sink::write(static_cast<int>(level), line);
}
void set_log_level(LogLevel level) { spdlog_sink::set_level(static_cast<int>(level)); }
void open_log_file(const std::string& path) { spdlog_sink::open_file(path); }

}  // namespace lorikeet
