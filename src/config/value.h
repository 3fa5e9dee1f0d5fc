#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "lorikeet/config/names.h"
#include "lorikeet/core/nearest.h"
#include "problem.h"
#include "rule.h"

namespace lorikeet {

// For each type of field: how it is parsed (throwing InvalidValue), written, checked and described.

void parse_value(const std::string& text, bool& value, const Any&);
void parse_value(const std::string& text, int64_t& value, const Whole& rule);
void parse_value(const std::string& text, Count& value, const Whole& rule);
void parse_value(const std::string& text, double& value, const Real& rule);
void parse_value(const std::string& text, std::string& value, const Text& rule);
void parse_value(const std::string& text, Period& value, const Units& rule);

std::string format_value(bool value, const Any&);
std::string format_value(int64_t value, const Whole& rule);
std::string format_value(const Count& value, const Whole& rule);
std::string format_value(double value, const Real& rule);
std::string format_value(const std::string& value, const Text& rule);  ///< quoted where needed
std::string format_value(const Period& value, const Units& rule);
std::string format_value(const std::vector<double>& value, const Numbers& rule);

/// The rule a value breaks, if any.
std::optional<InvalidValue> broken_rule(int64_t value, const Whole& rule);
std::optional<InvalidValue> broken_rule(const Count& value, const Whole& rule);
std::optional<InvalidValue> broken_rule(double value, const Real& rule);
std::optional<InvalidValue> broken_rule(const std::string& value, const Text& rule);
std::optional<InvalidValue> broken_rule(const Period& value, const Units& rule);
std::optional<InvalidValue> broken_rule(const std::vector<double>& value, const Numbers& rule);
inline std::optional<InvalidValue> broken_rule(bool, const Any&) { return std::nullopt; }

/// What the reference says of a rule: "1 to 1,048,576".
std::string allowed_values(const Whole& rule);
std::string allowed_values(const Real& rule);
std::string allowed_values(const Numbers& rule);
std::string allowed_values(const Text& rule);
std::string allowed_values(const Units& rule);
inline std::string allowed_values(const Any&) { return ""; }

template <NamedEnum E>
void parse_value(const std::string& text, E& value, const Any&) {
  try {
    value = parse_enum<E>(text);
  } catch (const std::invalid_argument& error) {
    const std::string meant = nearest(text, enum_names<E>());
    throw InvalidValue{error.what(),
                       meant.empty() ? "use one of them" : "did you mean " + meant + "?"};
  }
}

template <NamedEnum E>
std::string format_value(E value, const Any&) {
  const auto index = static_cast<size_t>(value);
  return index < kEnumNames<E>.size() ? to_string(value) : fmt::format("{}", index);
}

template <NamedEnum E>
std::optional<InvalidValue> broken_rule(E value, const Any&) {
  const auto index = static_cast<size_t>(value);
  if (index < kEnumNames<E>.size()) return std::nullopt;
  return InvalidValue{"is outside its enum",
                      fmt::format("use one of {}", fmt::join(kEnumNames<E>, ", "))};
}

/// A YAML scalar that reads back as `text`: plain where that is safe, else in double quotes.
std::string yaml_scalar(std::string_view text);

}  // namespace lorikeet
