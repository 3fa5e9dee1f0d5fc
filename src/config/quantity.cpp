#include "lorikeet/config/quantity.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <stdexcept>

namespace lorikeet {
namespace {

constexpr int64_t kLongestPeriod = 1'000'000'000'000'000;  // exact in a double
constexpr std::string_view kCountRule = "is not a whole number, such as 1048576, 1.5M or 150B";

[[noreturn]] void refuse(std::string_view rule) { throw std::invalid_argument(std::string(rule)); }

/// The leading decimal number of `text`: digits, and perhaps a point and digits.
std::string_view leading_number(std::string_view text) {
  const size_t whole = std::min(text.find_first_not_of("0123456789"), text.size());
  if (whole == 0 || whole == text.size() || text[whole] != '.') return text.substr(0, whole);
  const size_t end = std::min(text.find_first_not_of("0123456789", whole + 1), text.size());
  return end == whole + 1 ? text.substr(0, whole) : text.substr(0, end);
}

/// K, M, B or T as a power of ten.
std::optional<int> multiplier_exponent(char letter) {
  switch (letter) {
    case 'K':
      return 3;
    case 'M':
      return 6;
    case 'B':
      return 9;
    case 'T':
      return 12;
    default:
      return std::nullopt;
  }
}

/// number x 10^exponent in exact integer arithmetic.
int64_t scaled_whole(std::string_view number, int exponent, std::string_view rule) {
  const size_t point = number.find('.');
  std::string digits(number.substr(0, point));
  if (point != std::string_view::npos) {
    std::string_view fraction = number.substr(point + 1);
    fraction = fraction.substr(0, fraction.find_last_not_of('0') + 1);
    digits += fraction;
    exponent -= static_cast<int>(std::min<size_t>(fraction.size(), 1000));
  }
  if (exponent < 0) refuse(rule);
  digits.append(static_cast<size_t>(exponent), '0');
  int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error == std::errc::result_out_of_range) refuse("is too large for a 64-bit whole number");
  return value;
}

void refuse_negative(std::string_view text) {
  const bool negative =
      text.size() > 1 && text[0] == '-' && !leading_number(text.substr(1)).empty();
  if (negative) refuse("is negative");
}

double parse_fraction(std::string_view number, double factor) {
  double value = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
  value *= factor;
  const bool fits = error == std::errc() && value <= static_cast<double>(kLongestPeriod);
  if (!fits) refuse("is too long");
  return value;
}

double parse_whole_period(std::string_view number, int exponent, std::string_view unit) {
  const std::string rule = fmt::format("is not a whole number of {}", unit);
  const int64_t value = scaled_whole(number, exponent, rule);
  if (value > kLongestPeriod) refuse(fmt::format("is more than 1000T {}", unit));
  return static_cast<double>(value);
}

[[noreturn]] void refuse_unit(std::string_view number, std::string_view unit) {
  if (unit.empty()) {
    refuse(fmt::format("has no unit; write {0}steps, {0}tokens, {0}s, {0}min, {0}h or {0}%",
                       number.substr(0, 20)));
  }
  refuse("has an unknown unit; the units are steps, tokens, s, min, h and %");
}

std::string plain_decimal(double value) {
  char buffer[400];  // fixed notation of the smallest double is 340 characters long
  const auto result =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed);
  return std::string(buffer, result.ptr);
}

bool is_multiple(double value, double unit) { return value > 0 && std::fmod(value, unit) == 0; }

std::string seconds_to_string(double seconds) {
  if (is_multiple(seconds, 3600)) return plain_decimal(seconds / 3600) + "h";
  if (is_multiple(seconds, 60)) return plain_decimal(seconds / 60) + "min";
  return plain_decimal(seconds) + "s";
}

std::string whole_to_string(double value) {
  const bool is_whole = value == std::floor(value) && std::abs(value) < 9e18;
  return is_whole ? to_string(Count{static_cast<int64_t>(value)}) : plain_decimal(value);
}

}  // namespace

int64_t Period::to_steps(int64_t total_steps, int64_t tokens_per_step) const {
  if (is_never()) return 0;
  double steps = value;
  if (unit == Unit::kSeconds) throw std::logic_error("a period in seconds has no number of steps");
  if (unit == Unit::kTokens) steps = value / static_cast<double>(tokens_per_step);
  if (unit == Unit::kPercent) steps = static_cast<double>(total_steps) * value / 100.0;
  return std::max<int64_t>(1, std::llround(steps));
}

Period parse_period(std::string_view text) {
  if (text == "never") return Period::never();
  refuse_negative(text);
  const std::string_view number = leading_number(text);
  if (number.empty()) refuse("is not a period, such as 500steps, 10Mtokens, 30min, 5% or never");
  std::string_view unit = text.substr(number.size());
  if (unit == "%") {
    const double percent = parse_fraction(number, 1);
    if (percent > 100) refuse("is more than 100%");
    return Period::percent(percent);
  }
  if (unit == "s") return Period::seconds(parse_fraction(number, 1));
  if (unit == "min") return Period::seconds(parse_fraction(number, 60));
  if (unit == "h") return Period::seconds(parse_fraction(number, 3600));
  const int exponent = unit.empty() ? 0 : multiplier_exponent(unit[0]).value_or(0);
  if (exponent > 0) unit.remove_prefix(1);
  if (unit == "steps") return Period::steps(parse_whole_period(number, exponent, unit));
  if (unit == "tokens") return Period::tokens(parse_whole_period(number, exponent, unit));
  refuse_unit(text.substr(0, text.size() - unit.size()), unit);
}

Count parse_count(std::string_view text) {
  refuse_negative(text);
  const std::string_view number = leading_number(text);
  if (number.empty()) refuse(kCountRule);
  const std::string_view rest = text.substr(number.size());
  if (rest.empty()) return {scaled_whole(number, 0, kCountRule)};
  const std::optional<int> exponent = multiplier_exponent(rest[0]);
  if (!exponent || rest.size() != 1) refuse(kCountRule);
  return {scaled_whole(number, *exponent, kCountRule)};
}

std::string to_string(const Count& count) {
  std::string best = fmt::format("{}", count.value);
  constexpr std::pair<int64_t, char> kMultipliers[] = {
      {1'000, 'K'}, {1'000'000, 'M'}, {1'000'000'000, 'B'}, {1'000'000'000'000, 'T'}};
  for (const auto& [unit, letter] : kMultipliers) {
    if (count.value < unit) continue;
    std::string text = fmt::format("{}", count.value / unit);
    if (const int64_t rest = count.value % unit; rest != 0) {
      std::string fraction = fmt::format("{}", unit + rest).substr(1);  // keeps leading zeros
      fraction.resize(fraction.find_last_not_of('0') + 1);
      text.push_back('.');
      text += fraction;
    }
    text += letter;
    if (text.size() < best.size()) best = text;
  }
  return best;
}

std::string to_string(const Period& period) {
  switch (period.unit) {
    case Period::Unit::kNever:
      return "never";
    case Period::Unit::kSteps:
      return whole_to_string(period.value) + "steps";
    case Period::Unit::kTokens:
      return whole_to_string(period.value) + "tokens";
    case Period::Unit::kSeconds:
      return seconds_to_string(period.value);
    case Period::Unit::kPercent:
      return plain_decimal(period.value) + "%";
  }
  throw std::logic_error("a period without a unit");
}

std::string with_separators(int64_t value) {
  std::string text = fmt::format("{}", value);
  const size_t first_digit = value < 0 ? 1 : 0;
  for (size_t i = text.size(); i > first_digit + 3;) {
    i -= 3;
    text.insert(i, 1, ',');
  }
  return text;
}

}  // namespace lorikeet
