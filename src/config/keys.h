#pragma once
#include <map>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "lorikeet/config/run_config.h"

namespace lorikeet {

/// What stands under a key in YAML.
enum class Shape { kSection, kScalar, kList, kMap };

template <class T>
constexpr Shape shape_of() {
  if constexpr (std::is_same_v<T, std::vector<double>>) return Shape::kList;
  if constexpr (std::is_same_v<T, std::vector<MixtureWeight>>) return Shape::kMap;
  return Shape::kScalar;
}

/// Every key of RunConfig by its dotted path.
const std::map<std::string, Shape>& known_keys();

/// "model" + "hidden_size" = "model.hidden_size"; "" + "model" = "model".
std::string join_path(std::string_view section, std::string_view key);

/// The known key that `path` was probably meant to be, perhaps in another section. "" if none is
/// near.
std::string nearest_key(const std::string& path);

}  // namespace lorikeet
