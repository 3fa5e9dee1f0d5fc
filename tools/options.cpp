#include "tools/options.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <stdexcept>

#include "lorikeet/config/quantity.h"
#include "lorikeet/core/error.h"

namespace lorikeet {

namespace {

/// The whole of `text` as a number.
template <class T>
std::optional<T> parse(const std::string& text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

CLI::Validator whole_number_called(const std::string& description, int64_t least, int64_t most) {
  return {[=](std::string& text) {
            const auto value = parse<int64_t>(text);
            if (value && *value >= least && *value <= most) return std::string();
            return fmt::format("'{}' is not a whole number from {} to {}", text, least, most);
          },
          description};
}

}  // namespace

CLI::Validator whole_number(int64_t least, int64_t most) {
  return whole_number_called(fmt::format("{} to {}", least, most), least, most);
}

CLI::Validator seed_number() {
  return whole_number_called("0 or more", 0, std::numeric_limits<int64_t>::max());
}

CLI::Validator real_number(double least, double most) {
  return {[=](std::string& text) {
            const auto value = parse<double>(text);
            if (value && *value >= least && *value <= most) return std::string();
            return fmt::format("'{}' is not a number from {} to {}", text, least, most);
          },
          fmt::format("{} to {}", least, most)};
}

int64_t count_option(const std::string& name, const std::string& text, int64_t least,
                     const std::string& hint) {
  try {
    const int64_t value = parse_count(text).value;
    if (value >= least) return value;
    throw std::invalid_argument(fmt::format("is less than {}", least));
  } catch (const std::invalid_argument& error) {
    throw Error(ExitCode::kUsage, fmt::format("{}: '{}': {}", name, text, error.what()), hint);
  }
}

}  // namespace lorikeet
