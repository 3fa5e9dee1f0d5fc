// The only file that sees spdlog: Debian's spdlog brings a fmt of its own, which must not meet
// LibTorch's.
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <string>
#include <string_view>

namespace lorikeet::spdlog_sink {

namespace {
spdlog::logger& logger() {
  static const auto instance = [] {
    auto sink = std::make_shared<spdlog::sinks::stderr_color_sink_mt>();
    sink->set_pattern("%^%v%$");
    auto made = std::make_shared<spdlog::logger>("lorikeet", std::move(sink));
    made->flush_on(spdlog::level::trace);
    return made;
  }();
  return *instance;
}
}  // namespace

void write(int level, std::string_view line) {
  static constexpr spdlog::level::level_enum kLevels[] = {spdlog::level::debug, spdlog::level::info,
                                                          spdlog::level::warn, spdlog::level::err};
  logger().log(kLevels[level], spdlog::string_view_t(line.data(), line.size()));
}

void set_level(int level) {
  logger().set_level(static_cast<spdlog::level::level_enum>(SPDLOG_LEVEL_DEBUG + level));
}

void open_file(const std::string& path) {
  auto sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(path);
  sink->set_pattern("%Y-%m-%dT%H:%M:%S.%e %l %v");
  logger().sinks().push_back(std::move(sink));
}

}  // namespace lorikeet::spdlog_sink
