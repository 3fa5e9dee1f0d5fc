#pragma once
#include <cstdint>
#include <string>

#include "lorikeet/core/file.h"

namespace lorikeet::testing {

/// The bytes of a safetensors file with any header, right or wrong.
inline std::string raw_safetensors(const std::string& header, const std::string& data) {
  const uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + header + data;
}

inline std::string write_raw(const std::string& path, const std::string& bytes) {
  write_file_atomically(path, bytes, ExitCode::kCheckpoint);
  return path;
}

}  // namespace lorikeet::testing
