#pragma once
#include <nlohmann/json.hpp>

#include <string>
#include <string_view>

namespace lorikeet::storage {

using Json = nlohmann::json;

/// Parses text from outside: one JSON object, keys not repeated, at most `max_depth` levels, valid
/// UTF-8.
/// @param what  what is parsed, the message starts with it ("model.safetensors: header")
/// @throws Error(kCheckpoint)
Json parse_json_object(std::string_view text, const std::string& what, int max_depth);

/// The value as messages show it: cut after 60 characters.
std::string shown(const Json& value);

}  // namespace lorikeet::storage
