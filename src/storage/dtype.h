#pragma once
#include <c10/core/ScalarType.h>

#include <optional>
#include <string>
#include <string_view>

namespace lorikeet::storage {

/// The names of the safetensors format, both ways; none for a dtype the other side lacks.
std::optional<c10::ScalarType> dtype_of_name(std::string_view name);
std::optional<std::string> name_of_dtype(c10::ScalarType dtype);
/// "F64, F32, ..."
std::string supported_dtypes();

}  // namespace lorikeet::storage
