#pragma once
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>

namespace lorikeet {

/// What is wrong with a JSON document that could not be read, in our words: to stand behind its
/// name. The library's own begin with "[json.exception.type_error.302]" and name its functions.
inline std::string json_problem(const nlohmann::json::exception& error) {
  if (const auto* broken = dynamic_cast<const nlohmann::json::parse_error*>(&error)) {
    return fmt::format("is not JSON: broken at byte {}", broken->byte);
  }
  const std::string text = error.what();
  if (text.find("out_of_range.403]") != std::string::npos) {  // "[...] key 'tokens' not found"
    return "lacks the " + text.substr(text.find("] ") + 2, text.rfind('\'') - text.find("] ") - 1);
  }
  return "holds a value of another kind than it must";
}

}  // namespace lorikeet
