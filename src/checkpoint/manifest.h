#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace lorikeet::checkpoint {

inline constexpr int64_t kFormatVersion = 1;
inline constexpr const char* kManifestName = "manifest.json";
inline constexpr const char* kStateName = "state.json";

struct FileEntry {
  uint64_t bytes = 0;
  uint64_t checked_bytes = 0;  ///< from the start; the tensors' own checksums cover the rest
  std::string checksum;        ///< of the first `checked_bytes`
};

struct TensorEntry {
  std::string file;
  std::string dtype;  ///< safetensors' name, "F32"
  std::vector<int64_t> shape;
  std::string checksum;
};

/// manifest.json: what a checkpoint must consist of, and the run it is from.
struct Manifest {
  int64_t step = 0;
  int64_t tokens = 0;
  int64_t sequences = 0;
  int64_t world_size = 1;
  std::string configuration;
  std::string code_version;
  std::string data_fingerprint;
  std::map<std::string, FileEntry> files;  ///< all but the manifest, by name
  std::map<std::string, TensorEntry> tensors;
};

/// JSON whose last member is the checksum of all text before it.
std::string to_text(const Manifest& manifest);
/// @param path  for messages
/// @throws Error(kCheckpoint) for a changed byte, another version, a missing member
Manifest parse_manifest(std::string_view text, const std::string& path);

}  // namespace lorikeet::checkpoint
