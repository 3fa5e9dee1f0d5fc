#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lorikeet/config/model_config.h"
#include "lorikeet/storage/safetensors.h"

namespace lorikeet {

// A model directory: config.json, model.safetensors (or model.safetensors.index.json and shards),
// tokenizer.model. Keys and tensor names are those of Hugging Face's LLaMA, so a plain dense model
// of ours is one of theirs. Every error is an Error(kCheckpoint).

/// What config.json says beside the model itself.
struct ModelConfigNotes {
  at::ScalarType dtype = at::kFloat;                   ///< of the stored weights
  std::optional<int64_t> bos_token_id = std::nullopt;  ///< null in the file where absent
  std::optional<int64_t> eos_token_id = std::nullopt;
};

/// config.json of a model: "model_type": "llama" for a dense model without extensions, "lorikeet"
/// for any other. Holds all that the computed function depends on; settings of initialisation and
/// the kernel are not part of it.
std::string model_config_json(const ModelConfig& config, const ModelConfigNotes& notes = {});

/// Reads DIRECTORY/config.json, also as transformers 4 and 5 write it. Absent keys take Hugging
/// Face's defaults where they are harmless (num_key_value_heads, head_dim, rms_norm_eps,
/// rope_theta, tie_word_embeddings); settings that would compute something else (RoPE scaling,
/// biases, sliding windows, ...) are refused.
ModelConfig read_model_config(const std::string& directory);

/// The weights of a model directory: one file, or an index and its shards.
class ModelReader {
 public:
  /// Opens and checks every file, reads no weights yet.
  explicit ModelReader(const std::string& directory);

  const std::string& directory() const { return directory_; }
  /// Sorted.
  std::vector<std::string> names() const;
  bool contains(const std::string& name) const { return file_of_.contains(name); }
  const TensorInfo& info(const std::string& name) const { return file(name).info(name); }
  /// On the CPU, memory of its own.
  at::Tensor load(const std::string& name) const { return file(name).load(name); }
  /// On the CPU, no copy, only to be read: see SafetensorsFile::view.
  at::Tensor view(const std::string& name) const { return file(name).view(name); }

 private:
  void open_index(const std::string& path);
  const SafetensorsFile& file(const std::string& name) const;

  std::string directory_;
  std::map<std::string, SafetensorsFile> files_;  // by file name
  std::map<std::string, std::string> file_of_;    // tensor -> file name
};

/// One error that names the tensors (the first five of each kind, and how many) that are missing,
/// unexpected, of another shape or not floating-point. `...rotary_emb.inv_freq` of old LLaMA files
/// is no weight and is passed over.
void check_tensors(const ModelReader& reader,
                   const std::vector<std::pair<std::string, std::vector<int64_t>>>& expected);

struct ModelDirectoryOptions {
  int64_t max_shard_bytes = 5'000'000'000;  ///< a single larger tensor gets a shard of its own
  std::string tokenizer_path;               ///< copied as tokenizer.model; empty: none
  /// Floating-point weights are cast to this, one at a time.
  std::optional<at::ScalarType> dtype = std::nullopt;
  std::function<at::Tensor(const std::string& name)> load = nullptr;  ///< SafetensorsOptions::load
  std::optional<int64_t> bos_token_id = std::nullopt;
  std::optional<int64_t> eos_token_id = std::nullopt;
  /// kReplace takes the place of a whole model directory, and of nothing else.
  ExistingFolder existing = ExistingFolder::kRefuse;
};

/// Writes the directory as a whole or not at all (AtomicFolder).
void write_model_directory(const std::string& directory, const ModelConfig& config,
                           const NamedTensors& tensors, const ModelDirectoryOptions& options = {});

}  // namespace lorikeet
