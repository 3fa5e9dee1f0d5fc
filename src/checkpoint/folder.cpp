#include "folder.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "lorikeet/core/file.h"
#include "lorikeet/core/hash.h"
#include "lorikeet/storage/safetensors.h"

namespace lorikeet::checkpoint {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr ExitCode kCode = ExitCode::kCheckpoint;
constexpr uint64_t kBytesPerTensorEntry = 1024;  // header and manifest, generously
constexpr uint64_t kSlackBytes = 64 * 1024;

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

/// Checksums are of the tensors in memory, so that an error on the way to the disk shows.
void write_tensors(const std::string& path, const std::string& name,
                   const CheckpointContent& content, Manifest& manifest) {
  save_safetensors(path, content.tensors);
  for (const auto& [tensor_name, tensor] : content.tensors) {
    manifest.tensors[tensor_name] = {name, dtype_name(tensor.scalar_type()), tensor.sizes().vec(),
                                     checksum_of(tensor.const_data_ptr(), tensor.nbytes())};
  }
  const MappedFile map(path, kCode);
  const uint64_t header = header_bytes(SafetensorsFile(path), map.size());
  manifest.files[name] = {map.size(), header, checksum_of(map.data(), header)};
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

void read_tensors(const std::string& path, const std::string& name, const Manifest& manifest,
                  CheckpointContent& content) {
  const MappedFile map(path, kCode);
  const FileEntry& entry = manifest.files.at(name);
  if (entry.checked_bytes > map.size()) refuse(path, "is shorter than its header");
  check_checksum(path + ": the header's", map.data(), entry.checked_bytes, entry.checksum);
  const SafetensorsFile file(path);
  for (const auto& [tensor_name, expected] : manifest.tensors) {
    if (expected.file != name) continue;
    const std::string what = fmt::format("{}: tensor '{}'", path, tensor_name);
    const TensorInfo& info = file.info(tensor_name);
    const std::string wanted = expected.dtype + " " + shape_text(expected.shape);
    if (to_string(info) != wanted) {
      refuse(what, fmt::format("is {}, expected {}", to_string(info), wanted));
    }
    check_checksum(what, map.data() + info.offset, info.bytes, expected.checksum);
    content.tensors.emplace_back(tensor_name, file.view(tensor_name));
  }
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
  for (const auto& [name, tensor] : content.tensors)
    bytes += tensor.nbytes() + kBytesPerTensorEntry;
  for (const auto& [name, text] : content.states) bytes += 4 * text.size();  // indented
  return bytes;
}

void write_folder(const std::string& path, const CheckpointContent& content) {
  AtomicFolder folder(path, ExistingFolder::kReplace, kCode);
  Manifest manifest{.step = content.step,
                    .tokens = content.tokens,
                    .sequences = content.sequences,
                    .world_size = content.world_size,
                    .configuration = content.config_yaml,
                    .code_version = content.code_version,
                    .data_fingerprint = content.data_fingerprint,
                    .files = {},
                    .tensors = {}};
  const std::string name = tensors_name(/*rank=*/0);
  write_tensors(folder.path() + "/" + name, name, content, manifest);

  const std::string states = state_text(content);
  write_file_atomically(folder.path() + "/" + kStateName, states, kCode);
  manifest.files[kStateName] = {states.size(), states.size(), to_hex(hash64(states))};

  write_file_atomically(folder.path() + "/" + kManifestName, to_text(manifest), kCode);
  folder.commit();
}

CheckpointContent read_folder(const std::string& path) {
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
  for (const auto& [name, entry] : manifest.files) {
    if (name == kStateName) {
      read_states(path + "/" + name, entry, content);
    } else {
      read_tensors(path + "/" + name, name, manifest, content);
    }
  }
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
