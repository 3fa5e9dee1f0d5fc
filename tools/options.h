#pragma once
#include <CLI/CLI.hpp>
#include <cstdint>
#include <map>
#include <string>

namespace lorikeet {

// Checks of options, whose messages name the value and the rule: CLI11's own show the limits of a
// double with all their digits, and let NaN through.

/// A whole number from `least` to `most`.
CLI::Validator whole_number(int64_t least, int64_t most = 1'000'000'000'000);

/// A number from `least` to `most`, both finite.
CLI::Validator real_number(double least, double most);

/// A seed, as the configuration takes it.
CLI::Validator seed_number();

/// "64000", "64K", "1.5M" as a number. @throws Error(kUsage) for what is none, or below `least`
int64_t count_option(const std::string& name, const std::string& text, int64_t least,
                     const std::string& hint);

/// An option that takes one of `choices` by name.
/// @param value  set where the option is given; outlives the parsing
template <class T>
CLI::Option* add_choice(CLI::App& command, const std::string& name, T& value,
                        const std::map<std::string, T>& choices, const std::string& help) {
  return command
      .add_option_function<std::string>(
          name, [&value, choices](const std::string& given) { value = choices.at(given); }, help)
      ->check(CLI::IsMember(choices));
}

}  // namespace lorikeet
