#include "value.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace lorikeet {
namespace {

bool is_word(const char* word, std::string_view text) { return word != nullptr && text == word; }

std::string plain_number(double value) {
  std::string text = fmt::format("{}", value);
  const bool looks_whole = text.find_first_not_of("-0123456789") == std::string::npos;
  return looks_whole ? text + ".0" : text;
}

/// For the reference and messages: 0 and 1 rather than 0.0 and 1.0.
std::string short_number(double value) { return fmt::format("{}", value); }

bool has_control_characters(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 0x20 || byte == 0x7F;
  });
}

const char* unit_name(Period::Unit unit) {
  switch (unit) {
    case Period::Unit::kNever:
      return "never";
    case Period::Unit::kSteps:
      return "steps";
    case Period::Unit::kTokens:
      return "tokens";
    case Period::Unit::kSeconds:
      return "time (s, min, h)";
    case Period::Unit::kPercent:
      return "%";
  }
  return "";
}

std::string unit_names(const Units& rule) {
  std::vector<std::string> names;
  for (const Period::Unit unit : rule.allowed) names.emplace_back(unit_name(unit));
  return fmt::format("{}", fmt::join(names, ", "));
}

std::string with_zero_word(const char* zero_word, const std::string& text) {
  return zero_word != nullptr ? fmt::format("{}, or {}", zero_word, text) : text;
}

std::string range_of(const Real& rule) {
  std::string text = (rule.min_allowed ? "at least " : "above ") + short_number(rule.min);
  if (rule.max != std::numeric_limits<double>::max()) {
    text += (rule.max_allowed ? " and at most " : " and below ") + short_number(rule.max);
  }
  return text;
}

/// How to mend a text that is no number.
std::string number_hint(const Real& rule) {
  return "use " + with_zero_word(rule.zero_word, "a number " + range_of(rule));
}

/// How to mend a number out of range: the bound that it broke.
std::string bound_hint(int64_t value, const Whole& rule) {
  if (rule.min == rule.max) return "use " + allowed_values(rule);
  const bool is_low = value < rule.min;
  const std::string bound = with_separators(is_low ? rule.min : rule.max);
  return "use " + with_zero_word(rule.zero_word, bound + (is_low ? " or more" : " or less"));
}

std::string bound_hint(double value, const Real& rule) {
  const bool is_high = value >= rule.max;
  const std::string bound = short_number(is_high ? rule.max : rule.min);
  const bool is_allowed = is_high ? rule.max_allowed : rule.min_allowed;
  std::string text = bound + (is_high ? " or less" : " or more");
  if (!is_allowed) text = (is_high ? "less than " : "more than ") + bound;
  return "use " + with_zero_word(rule.zero_word, text);
}

/// How to mend a text that is no period.
std::string period_hint(const std::string& text, const Units& rule) {
  const auto& allowed = rule.allowed;
  const bool has_percent =
      std::find(allowed.begin(), allowed.end(), Period::Unit::kPercent) != allowed.end();
  if (has_percent && text.ends_with('%')) return "use 0% to 100%";
  return "write it like 500steps; the units here are " + unit_names(rule);
}

}  // namespace

void parse_value(const std::string& text, bool& value, const Any&) {
  if (text != "true" && text != "false")
    throw InvalidValue{"is neither true nor false", "write true or false"};
  value = text == "true";
}

void parse_value(const std::string& text, int64_t& value, const Whole& rule) {
  Count count;
  parse_value(text, count, rule);
  value = count.value;
}

void parse_value(const std::string& text, Count& value, const Whole& rule) {
  value = {0};
  if (is_word(rule.zero_word, text)) return;
  try {
    value = parse_count(text);
  } catch (const std::invalid_argument& error) {
    throw InvalidValue{error.what(), "use " + allowed_values(rule)};
  }
}

void parse_value(const std::string& text, double& value, const Real& rule) {
  value = 0;
  if (is_word(rule.zero_word, text)) return;
  double parsed = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, parsed);
  if (error == std::errc::result_out_of_range) {
    throw InvalidValue{"is out of the range of a 64-bit float", number_hint(rule)};
  }
  const bool is_number = error == std::errc() && rest == end && std::isfinite(parsed);
  if (!is_number) {
    throw InvalidValue{"is not a finite number, such as 0.1 or 2.0e-4", number_hint(rule)};
  }
  value = parsed;
}

void parse_value(const std::string& text, std::string& value, const Text&) { value = text; }

void parse_value(const std::string& text, Period& value, const Units& rule) {
  try {
    value = parse_period(text);
  } catch (const std::invalid_argument& error) {
    throw InvalidValue{error.what(), period_hint(text, rule)};
  }
}

std::string format_value(bool value, const Any&) { return value ? "true" : "false"; }

std::string format_value(int64_t value, const Whole& rule) {
  const bool as_word = value == 0 && rule.zero_word != nullptr;
  return as_word ? rule.zero_word : fmt::format("{}", value);
}

std::string format_value(const Count& value, const Whole& rule) {
  const bool as_word = value.value == 0 && rule.zero_word != nullptr;
  return as_word ? rule.zero_word : to_string(value);
}

std::string format_value(double value, const Real& rule) {
  return value == 0 && rule.zero_word != nullptr ? rule.zero_word : plain_number(value);
}

std::string format_value(const std::string& value, const Text&) { return yaml_scalar(value); }

std::string format_value(const Period& value, const Units&) { return to_string(value); }

std::string format_value(const std::vector<double>& value, const Numbers&) {
  std::vector<std::string> texts;
  for (const double number : value) texts.push_back(plain_number(number));
  return fmt::format("[{}]", fmt::join(texts, ", "));
}

std::optional<InvalidValue> broken_rule(int64_t value, const Whole& rule) {
  if (value == 0 && rule.zero_word != nullptr) return std::nullopt;
  if (value >= rule.min && value <= rule.max) return std::nullopt;
  return InvalidValue{"is not " + allowed_values(rule), bound_hint(value, rule)};
}

std::optional<InvalidValue> broken_rule(const Count& value, const Whole& rule) {
  return broken_rule(value.value, rule);
}

std::optional<InvalidValue> broken_rule(double value, const Real& rule) {
  if (value == 0 && rule.zero_word != nullptr) return std::nullopt;
  const bool above = rule.min_allowed ? value >= rule.min : value > rule.min;
  const bool below = rule.max_allowed ? value <= rule.max : value < rule.max;
  if (above && below) return std::nullopt;  // NaN is neither
  return InvalidValue{"is not " + allowed_values(rule), bound_hint(value, rule)};
}

std::optional<InvalidValue> broken_rule(const std::string& value, const Text& rule) {
  if (value.empty() && !rule.may_be_empty)
    return InvalidValue{"is empty", fmt::format("give it {}", rule.what)};
  if (has_control_characters(value)) {
    return InvalidValue{"contains control characters", "remove them"};
  }
  const bool is_path = value.find('/') != std::string::npos || value == "." || value == "..";
  if (rule.is_file_name && is_path) {
    return InvalidValue{"is a path, not the name of a folder",
                        "use a plain name; output says where its folder is"};
  }
  const auto& choices = rule.choices;
  const bool is_choice = std::find(choices.begin(), choices.end(), value) != choices.end();
  if (choices.empty() || is_choice) return std::nullopt;
  const std::string meant = nearest(value, choices);
  return InvalidValue{"is not " + allowed_values(rule), meant.empty()
                                                            ? "use " + allowed_values(rule)
                                                            : "did you mean " + meant + "?"};
}

std::optional<InvalidValue> broken_rule(const Period& value, const Units& rule) {
  const auto& allowed = rule.allowed;
  const bool is_allowed = std::find(allowed.begin(), allowed.end(), value.unit) != allowed.end();
  if (is_allowed) return std::nullopt;
  return InvalidValue{"is in a unit that has no meaning here", "use " + unit_names(rule)};
}

std::optional<InvalidValue> broken_rule(const std::vector<double>& value, const Numbers& rule) {
  const std::string broken = "is not " + allowed_values(rule);
  if (value.size() != rule.length) {
    return InvalidValue{broken, fmt::format("write {} numbers in brackets", rule.length)};
  }
  for (const double number : value) {
    if (const auto one = broken_rule(number, rule.each)) return InvalidValue{broken, one->hint};
  }
  return std::nullopt;
}

std::string allowed_values(const Whole& rule) {
  std::string text = fmt::format("{} or more", with_separators(rule.min));
  const bool is_bounded = rule.max != std::numeric_limits<int64_t>::max();
  if (is_bounded) text = with_separators(rule.min) + " to " + with_separators(rule.max);
  if (rule.min == rule.max) text = with_separators(rule.min);
  return with_zero_word(rule.zero_word, text);
}

std::string allowed_values(const Real& rule) {
  return with_zero_word(rule.zero_word, range_of(rule));
}

std::string allowed_values(const Numbers& rule) {
  return fmt::format("a list of {} numbers, each {}", rule.length, allowed_values(rule.each));
}

std::string allowed_values(const Text& rule) {
  if (rule.choices.empty()) return rule.what;
  return fmt::format("{}", fmt::join(rule.choices, ", "));
}

std::string allowed_values(const Units& rule) { return unit_names(rule); }

std::string yaml_scalar(std::string_view text) {
  constexpr std::string_view kLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  const std::string safe_first = std::string(kLetters) + "0123456789_/";
  const bool is_null = text == "null" || text == "Null" || text == "NULL" || text.empty();
  const bool is_safe = !is_null && safe_first.find(text[0]) != std::string::npos &&
                       text.find_first_not_of(safe_first + ".-+") == std::string_view::npos;
  if (is_safe) return std::string(text);
  std::string quoted = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7F) {
      quoted += fmt::format("\\x{:02x}", byte);
      continue;
    }
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + "\"";
}

}  // namespace lorikeet
