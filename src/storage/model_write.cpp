#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>

#include "lorikeet/storage/model_directory.h"

namespace lorikeet {

namespace fs = std::filesystem;

namespace {

uint64_t stored_bytes(const at::Tensor& tensor, const ModelDirectoryOptions& options) {
  const bool is_cast = options.dtype && tensor.is_floating_point();
  const auto dtype = is_cast ? *options.dtype : tensor.scalar_type();
  return static_cast<uint64_t>(tensor.numel()) * c10::elementSize(dtype);
}

at::ScalarType stored_dtype(const NamedTensors& tensors, const ModelDirectoryOptions& options) {
  if (options.dtype) return *options.dtype;
  for (const auto& entry : tensors) {
    if (entry.second.is_floating_point()) return entry.second.scalar_type();
  }
  return at::kFloat;
}

/// In the given order, each as full as the limit allows.
std::vector<NamedTensors> split_into_shards(const NamedTensors& tensors,
                                            const ModelDirectoryOptions& options) {
  std::vector<NamedTensors> shards(1);
  const auto limit = static_cast<uint64_t>(options.max_shard_bytes);
  uint64_t filled = 0;
  for (const auto& entry : tensors) {
    const uint64_t bytes = stored_bytes(entry.second, options);
    if (!shards.back().empty() && filled + bytes > limit) {
      shards.emplace_back();
      filled = 0;
    }
    shards.back().push_back(entry);
    filled += bytes;
  }
  return shards;
}

void write_weights(const std::string& folder, const NamedTensors& tensors,
                   const ModelDirectoryOptions& options, uint64_t total_bytes) {
  const SafetensorsOptions file_options{{{"format", "pt"}},  // asked for by transformers
                                        options.dtype,
                                        options.load};
  const auto shards = split_into_shards(tensors, options);
  if (shards.size() == 1) {
    save_safetensors(folder + "/model.safetensors", shards[0], file_options);
    return;
  }
  nlohmann::json weight_map = nlohmann::json::object();
  for (size_t i = 0; i < shards.size(); ++i) {
    const auto name = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    save_safetensors(folder + "/" + name, shards[i], file_options);
    for (const auto& entry : shards[i]) {
      if (weight_map.contains(entry.first)) {
        throw Error(ExitCode::kCheckpoint, fmt::format("tensor '{}' is given twice", entry.first),
                    "give each tensor a name of its own");
      }
      weight_map[entry.first] = name;
    }
  }
  const nlohmann::json index = {{"metadata", {{"total_size", total_bytes}}},
                                {"weight_map", weight_map}};
  write_file_atomically(folder + "/model.safetensors.index.json", index.dump(2) + "\n",
                        ExitCode::kCheckpoint);
}

void check_before_writing(const std::string& directory, const ModelDirectoryOptions& options,
                          uint64_t total_bytes) {
  std::error_code error;
  if (options.existing == ExistingFolder::kReplace && fs::is_directory(directory, error) &&
      !fs::is_empty(directory, error) && !fs::exists(fs::path(directory) / "config.json", error)) {
    throw Error(ExitCode::kCheckpoint,
                directory + ": is a folder, but no model directory: it will not be replaced",
                "choose another folder");
  }
  const uint64_t free = free_disk_bytes(directory, ExitCode::kCheckpoint);
  if (free < total_bytes) {
    throw Error(ExitCode::kCheckpoint,
                fmt::format("{}: the weights need {} bytes, and the disk has {} left (ENOSPC)",
                            directory, total_bytes, free),
                "make room on that disk, or choose another folder");
  }
}

}  // namespace

void write_model_directory(const std::string& directory, const ModelConfig& config,
                           const NamedTensors& tensors, const ModelDirectoryOptions& options) {
  for (const auto& [name, tensor] : tensors) {
    if (!tensor.defined()) {
      throw Error(ExitCode::kCheckpoint,
                  fmt::format("{}: tensor '{}' is undefined", directory, name),
                  "leave it out, or give it a value");
    }
  }
  uint64_t total_bytes = 0;
  for (const auto& entry : tensors) total_bytes += stored_bytes(entry.second, options);
  check_before_writing(directory, options, total_bytes);
  AtomicFolder folder(directory, options.existing, ExitCode::kCheckpoint);
  if (!options.tokenizer_path.empty()) {
    write_file_atomically(folder.path() + "/tokenizer.model",
                          read_text_file(options.tokenizer_path, ExitCode::kCheckpoint),
                          ExitCode::kCheckpoint);
  }
  const ModelConfigNotes notes{stored_dtype(tensors, options), options.bos_token_id,
                               options.eos_token_id};
  write_file_atomically(folder.path() + "/config.json", model_config_json(config, notes),
                        ExitCode::kCheckpoint);
  write_weights(folder.path(), tensors, options, total_bytes);
  folder.commit();
}

}  // namespace lorikeet
