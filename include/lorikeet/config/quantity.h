#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace lorikeet {

/// A point or a distance in a run, written in the unit the user thinks in: `500steps`, `10Mtokens`,
/// `30min` (s, min, h), `5%` of the run, or `never`. Decimal multipliers K, M, B, T (`10Ktokens` =
/// 10,000 tokens).
struct Period {
  enum class Unit { kNever, kSteps, kTokens, kSeconds, kPercent };
  double value = 0;
  Unit unit = Unit::kNever;

  static Period never() { return {}; }
  static Period steps(double n) { return {n, Unit::kSteps}; }
  static Period tokens(double n) { return {n, Unit::kTokens}; }
  static Period seconds(double n) { return {n, Unit::kSeconds}; }
  static Period percent(double n) { return {n, Unit::kPercent}; }

  bool is_never() const { return unit == Unit::kNever || value == 0; }
  /// Steps, for a run of `total_steps` with `tokens_per_step`; rounded to the nearest, at least 1
  /// unless never or zero. Seconds have no step: call only for the other units.
  int64_t to_steps(int64_t total_steps, int64_t tokens_per_step) const;
  bool operator==(const Period&) const = default;
};

/// A whole number with an optional decimal multiplier: 150B, 1.5M, 1048576.
struct Count {
  int64_t value = 0;
  bool operator==(const Count&) const = default;
};

/// Parse; the whole text must be one quantity. Steps and tokens are whole after multiplying, and at
/// most 10^15.
/// @throws std::invalid_argument whose what() is the rule broken, to be read after the text: "has
/// no unit; ..."
Period parse_period(std::string_view text);
Count parse_count(std::string_view text);

/// A short text that parses to the same value ("150B", "500steps", "30min").
std::string to_string(const Period& period);
std::string to_string(const Count& count);
/// 1826652160 -> "1,826,652,160".
std::string with_separators(int64_t value);

}  // namespace lorikeet
