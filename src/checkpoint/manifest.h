#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace lorikeet::checkpoint {

inline constexpr int64_t kFormatVersion = 2;
inline constexpr const char* kManifestName = "manifest.json";
inline constexpr const char* kStateName = "state.json";

struct FileEntry {
  uint64_t bytes = 0;
  uint64_t checked_bytes = 0;  ///< from the start; the tensors' own checksums cover the rest
  std::string checksum;        ///< of the first `checked_bytes`
};

/// Consecutive elements of a tensor in one file.
struct PieceEntry {
  std::string file;
  int64_t begin = 0;  ///< the first element, row by row
  int64_t numel = 0;
  std::string checksum;
};

struct TensorEntry {
  std::string dtype;           ///< safetensors' name, "F32"
  std::vector<int64_t> shape;  ///< of the whole tensor
  std::vector<PieceEntry> pieces;

  /// Whether `piece` is the whole tensor, and so lies in its file in its own shape.
  bool is_whole(const PieceEntry& piece) const;
};

/// Under which a piece lies in its file: the tensor's own name, or, of a part, that and where it
/// begins, since one file may hold several.
std::string stored_name(const std::string& tensor, const TensorEntry& entry,
                        const PieceEntry& piece);

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

/// Brings each tensor's pieces into order and finds out whether they hold every element exactly
/// once. @return what is wrong, empty where nothing is
std::string order_pieces(Manifest& manifest);

/// Adds the pieces of one tensor.
/// @throws Error(kInternal) where those known of it are of another dtype or shape
void add_tensor(Manifest& manifest, const std::string& name, const TensorEntry& entry);
/// What one rank wrote, files and tensors alone, as text for the rank that writes the manifest.
std::string part_text(const Manifest& part);
/// @throws Error(kInternal) as add_tensor
void add_part(Manifest& manifest, const std::string& text);

/// JSON whose last member is the checksum of all text before it.
std::string to_text(const Manifest& manifest);
/// @param path  for messages
/// @throws Error(kCheckpoint) for a changed byte, another version, a missing member, tensors with
/// holes
Manifest parse_manifest(std::string_view text, const std::string& path);

}  // namespace lorikeet::checkpoint
