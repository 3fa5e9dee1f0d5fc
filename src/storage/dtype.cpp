#include "dtype.h"

#include <ATen/ATen.h>

#include <fmt/ranges.h>

#include <array>
#include <utility>
#include <vector>

namespace lorikeet::storage {

namespace {
constexpr std::array<std::pair<std::string_view, c10::ScalarType>, 10> kDtypes{{
    {"F64", at::kDouble},
    {"F32", at::kFloat},
    {"F16", at::kHalf},
    {"BF16", at::kBFloat16},
    {"I64", at::kLong},
    {"I32", at::kInt},
    {"I16", at::kShort},
    {"I8", at::kChar},
    {"U8", at::kByte},
    {"BOOL", at::kBool},
}};
}  // namespace

std::optional<c10::ScalarType> dtype_of_name(std::string_view name) {
  for (const auto& [known, dtype] : kDtypes) {
    if (known == name) return dtype;
  }
  return std::nullopt;
}

std::optional<std::string> name_of_dtype(c10::ScalarType dtype) {
  for (const auto& [name, known] : kDtypes) {
    if (known == dtype) return std::string(name);
  }
  return std::nullopt;
}

std::string supported_dtypes() {
  std::vector<std::string_view> names;
  for (const auto& entry : kDtypes) names.push_back(entry.first);
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace lorikeet::storage
