#include "folder.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>
#include <utility>

#include "lorikeet/core/hash.h"
#include "lorikeet/storage/safetensors.h"

namespace lorikeet::checkpoint {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr ExitCode kCode = ExitCode::kCheckpoint;
constexpr uint64_t kBytesPerTensorEntry = 1024;  // header and manifest, generously
constexpr uint64_t kSlackBytes = 64 * 1024;

/// Of a manifest, which outlives it.
struct WantedPiece {
  const std::pair<const std::string, TensorEntry>* tensor;
  const PieceEntry* piece;
};

std::string tensors_name(int rank) { return fmt::format("tensors_rank_{:05}.safetensors", rank); }

std::string dtype_name(at::ScalarType dtype) {
  const std::string text = to_string(TensorInfo{.dtype = dtype, .shape = {}});  // "F32 []"
  return text.substr(0, text.find(' '));
}

std::string checksum_of(const void* data, uint64_t bytes) { return to_hex(hash64(data, bytes)); }

/// Bytes before the first tensor's data; safetensors have no holes, so the tensors are the rest.
uint64_t header_bytes(const SafetensorsFile& file, uint64_t file_bytes) {
  uint64_t first = file_bytes;
  for (const std::string& name : file.names()) first = std::min(first, file.info(name).offset);
  return first;
}

[[noreturn]] void refuse(const std::string& path, const std::string& rule) {
  throw Error(kCode, path + ": " + rule, "the checkpoint is damaged; use another one");
}

void check_checksum(const std::string& what, const void* data, uint64_t bytes,
                    const std::string& expected) {
  const std::string found = checksum_of(data, bytes);
  if (found != expected) refuse(what, fmt::format("checksum is {}, expected {}", found, expected));
}

/// Elements of the whole tensor.
int64_t num_elements(const TensorPiece& piece) { return c10::multiply_integers(piece.shape); }

/// Empty pieces of tensors that have elements say nothing.
bool is_stored(const TensorPiece& piece) {
  return piece.values.numel() > 0 || num_elements(piece) == 0;
}

/// Of the whole tensor that `piece` is from, with that piece alone, in `file`.
TensorEntry entry_of(const TensorPiece& piece, const std::string& file) {
  const PieceEntry entry = {file, piece.begin, piece.values.numel(), ""};
  return {dtype_name(piece.values.scalar_type()), piece.shape, {entry}};
}

std::string state_text(const CheckpointContent& content) {
  Json json = Json::object();
  for (const auto& [name, text] : content.states) {
    json[name] = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!json[name].is_discarded()) continue;
    throw Error(ExitCode::kInternal,
                fmt::format("checkpoint: state '{}' is no JSON: {}", name, text));
  }
  return json.dump(2) + "\n";
}

Manifest read_manifest(const std::string& path) {
  const std::string manifest_path = path + "/" + kManifestName;
  std::error_code ignored;
  if (!fs::exists(manifest_path, ignored)) {
    throw Error(kCode, fmt::format("{}: is no checkpoint: it has no {}", path, kManifestName),
                "give a folder such as runs/NAME/checkpoints/step_00001000");
  }
  return parse_manifest(read_text_file(manifest_path, kCode), manifest_path);
}

/// The folder holds the files of the manifest, with their sizes, and no others. Hidden ones do not
/// count: file systems and browsers leave some.
void check_files(const std::string& path, const Manifest& manifest) {
  for (const auto& [name, entry] : manifest.files) {
    std::error_code error;
    const uint64_t bytes = fs::file_size(path + "/" + name, error);
    if (error) refuse(path + "/" + name, "cannot be read: " + error.message());
    if (bytes != entry.bytes) {
      refuse(path + "/" + name, fmt::format("has {} bytes, expected {}", bytes, entry.bytes));
    }
  }
  std::error_code error;
  for (fs::directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.starts_with('.') || name == kManifestName || manifest.files.contains(name)) continue;
    refuse(path + "/" + name, "is no part of this checkpoint");
  }
  if (error) refuse(path, "cannot be listed: " + error.message());
}

/// The wanted pieces of one file.
void read_tensors(const std::string& path, const std::string& name, const Manifest& manifest,
                  const std::vector<WantedPiece>& wanted, CheckpointContent& content) {
  const MappedFile map(path, kCode);
  const FileEntry& entry = manifest.files.at(name);
  if (entry.checked_bytes > map.size()) refuse(path, "is shorter than its header");
  check_checksum(path + ": the header's", map.data(), entry.checked_bytes, entry.checksum);
  const SafetensorsFile file(path);
  for (const auto& [tensor, piece] : wanted) {
    const auto& [tensor_name, expected] = *tensor;
    const std::string stored = stored_name(tensor_name, expected, *piece);
    const std::string what = fmt::format("{}: tensor '{}'", path, stored);
    const TensorInfo& info = file.info(stored);
    const std::vector<int64_t> shape =
        expected.is_whole(*piece) ? expected.shape : std::vector<int64_t>{piece->numel};
    const std::string needed = expected.dtype + " " + shape_text(shape);
    if (to_string(info) != needed) {
      refuse(what, fmt::format("is {}, expected {}", to_string(info), needed));
    }
    check_checksum(what, map.data() + info.offset, info.bytes, piece->checksum);
    content.tensors.push_back({tensor_name, expected.shape, piece->begin, file.view(stored)});
  }
}

/// By file.
std::map<std::string, std::vector<WantedPiece>> wanted_pieces(const Manifest& manifest,
                                                              const CheckpointContent& head,
                                                              const PieceFilter& is_wanted) {
  std::map<std::string, std::vector<WantedPiece>> wanted;
  for (const auto& tensor : manifest.tensors) {
    for (const PieceEntry& piece : tensor.second.pieces) {
      if (!manifest.files.contains(piece.file)) {
        refuse(piece.file, fmt::format("is to hold '{}', but is not listed", tensor.first));
      }
      if (is_wanted && !is_wanted(head, tensor.first, piece.begin, piece.numel)) continue;
      wanted[piece.file].push_back({&tensor, &piece});
    }
  }
  return wanted;
}

void read_states(const std::string& path, const FileEntry& entry, CheckpointContent& content) {
  const std::string text = read_text_file(path, kCode);
  check_checksum(path, text.data(), text.size(), entry.checksum);
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) refuse(path, "is not a JSON object");
  for (const auto& [name, state] : json.items()) content.states[name] = state.dump();
}

}  // namespace

uint64_t bytes_needed(const CheckpointContent& content) {
  uint64_t bytes = kSlackBytes + 2 * content.config_yaml.size();  // escaped
  for (const TensorPiece& piece : content.tensors) {
    bytes += piece.values.nbytes() + kBytesPerTensorEntry;
  }
  for (const auto& [name, text] : content.states) bytes += 4 * text.size();  // indented
  return bytes;
}

/// Checksums are of the tensors in memory, so that an error on the way to the disk shows.
std::string write_part(const std::string& folder, int rank, const CheckpointContent& content) {
  const std::string name = tensors_name(rank), path = folder + "/" + name;
  Manifest part;
  NamedTensors stored;
  for (const TensorPiece& piece : content.tensors) {
    if (!is_stored(piece)) continue;
    const torch::Tensor& values = piece.values;
    TensorEntry tensor = entry_of(piece, name);
    PieceEntry& entry = tensor.pieces.front();
    entry.checksum = checksum_of(values.const_data_ptr(), values.nbytes());
    add_tensor(part, piece.name, tensor);
    stored.emplace_back(stored_name(piece.name, tensor, entry),
                        tensor.is_whole(entry) ? values.view(piece.shape) : values.view({-1}));
  }
  save_safetensors(path, stored);
  const MappedFile map(path, kCode);
  const uint64_t header = header_bytes(SafetensorsFile(path), map.size());
  part.files[name] = {map.size(), header, checksum_of(map.data(), header)};
  return part_text(part);
}

std::string move_part(const std::string& folder, int rank, CheckpointContent& content) {
  const std::string path = folder + "/" + tensors_name(rank);
  std::string part = write_part(folder, rank, content);
  const SafetensorsFile file(path);
  fs::remove(path);
  for (TensorPiece& piece : content.tensors) {
    if (!is_stored(piece)) continue;
    const TensorEntry tensor = entry_of(piece, "");
    piece.values = file.view(stored_name(piece.name, tensor, tensor.pieces.front()));
  }
  return part;
}

void require_space(const std::string& path, uint64_t needed) {
  const uint64_t free = free_disk_bytes(path, kCode);
  if (free >= needed) return;
  throw Error(kCode,
              fmt::format("{}: the checkpoint needs {} bytes, but the disk has {} left", path,
                          with_separators(static_cast<int64_t>(needed)),
                          with_separators(static_cast<int64_t>(free))),
              "make room on that disk, or keep fewer checkpoints (checkpoint.keep_last)");
}

void write_manifest(AtomicFolder& folder, const CheckpointContent& content,
                    const std::vector<std::string>& parts) {
  Manifest manifest{.step = content.step,
                    .tokens = content.tokens,
                    .sequences = content.sequences,
                    .world_size = static_cast<int64_t>(parts.size()),
                    .configuration = content.config_yaml,
                    .code_version = content.code_version,
                    .data_fingerprint = content.data_fingerprint,
                    .files = {},
                    .tensors = {}};
  for (const std::string& part : parts) add_part(manifest, part);
  const std::string problem = order_pieces(manifest);
  if (!problem.empty()) throw Error(ExitCode::kInternal, "checkpoint: " + problem);

  const std::string states = state_text(content);
  write_file_atomically(folder.path() + "/" + kStateName, states, kCode);
  manifest.files[kStateName] = {states.size(), states.size(), to_hex(hash64(states))};

  write_file_atomically(folder.path() + "/" + kManifestName, to_text(manifest), kCode);
  folder.commit();
}

CheckpointContent read_folder(const std::string& path, const PieceFilter& is_wanted) {
  const Manifest manifest = read_manifest(path);
  check_files(path, manifest);
  CheckpointContent content{.step = manifest.step,
                            .tokens = manifest.tokens,
                            .sequences = manifest.sequences,
                            .tensors = {},
                            .states = {},
                            .config_yaml = manifest.configuration,
                            .code_version = manifest.code_version,
                            .data_fingerprint = manifest.data_fingerprint,
                            .world_size = static_cast<int>(manifest.world_size)};
  const auto states = manifest.files.find(kStateName);
  if (states == manifest.files.end()) refuse(path, fmt::format("lists no {}", kStateName));
  read_states(path + "/" + kStateName, states->second, content);
  for (const auto& [name, pieces] : wanted_pieces(manifest, content, is_wanted)) {
    read_tensors(path + "/" + name, name, manifest, pieces, content);
  }
  std::sort(content.tensors.begin(), content.tensors.end(),
            [](const TensorPiece& a, const TensorPiece& b) {
              return std::tie(a.name, a.begin) < std::tie(b.name, b.begin);
            });
  return content;
}

bool looks_whole(const std::string& path) {
  try {
    check_files(path, read_manifest(path));
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace lorikeet::checkpoint
