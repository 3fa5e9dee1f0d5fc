#include "lorikeet/train/consolidate.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <utility>

#include "lorikeet/checkpoint/checkpoint.h"
#include "lorikeet/config/load.h"
#include "lorikeet/core/error.h"
#include "lorikeet/data/manifest.h"
#include "lorikeet/model/language_model.h"
#include "lorikeet/model/load.h"
#include "lorikeet/storage/model_directory.h"
#include "lorikeet/train/training_state.h"

namespace lorikeet {
namespace {

namespace fs = std::filesystem;

/// AdamW::state names moments so; they are twice the weights, and not needed.
bool is_no_moment(const CheckpointContent& /*head*/, const std::string& name, int64_t /*begin*/,
                  int64_t /*numel*/) {
  return !name.starts_with("optimizer.");
}

CheckpointContent load_any(const std::string& source, std::string* folder) {
  *folder = source;
  std::error_code ignored;
  if (!fs::is_directory(source + "/checkpoints", ignored)) {
    return CheckpointStore::load(source, is_no_moment);
  }
  CheckpointStore store(source, CheckpointConfig());
  if (auto newest = store.load_newest(is_no_moment)) {
    *folder = store.path_of(newest->step);
    return std::move(*newest);
  }
  throw Error(ExitCode::kCheckpoint, source + "/checkpoints: holds no whole checkpoint",
              "give the folder of a run that has left one, or a checkpoint itself");
}

/// The shards lie beside their tokenizer, but may be gone by now, or on another machine.
std::string find_tokenizer(const DataConfig& data) {
  std::error_code ignored;
  const std::string beside = data.shards.empty() ? "" : data.shards + "/" + kTokenizerFile;
  for (const std::string& path : {beside, data.tokenizer}) {
    if (!path.empty() && fs::is_regular_file(path, ignored)) return path;
  }
  return "";
}

/// Before anything is written.
void require_weights(const CheckpointContent& content, const NamedTensors& weights,
                     const std::string& folder) {
  for (const auto& [name, weight] : weights) {
    const auto is_it = [&, &name = name, &weight = weight](const TensorPiece& piece) {
      return piece.name == name && weight.sizes().equals(piece.shape) &&
             piece.values.scalar_type() == weight.scalar_type();
    };
    if (std::any_of(content.tensors.begin(), content.tensors.end(), is_it)) continue;
    throw Error(ExitCode::kCheckpoint,
                fmt::format("{}: holds no '{}' of the shape [{}], which the model of its "
                            "configuration has",
                            folder, name, fmt::join(weight.sizes(), ", ")),
                "use the version of lorikeet that wrote it");
  }
}

}  // namespace

Consolidated consolidate(const std::string& source, const std::string& output) {
  Consolidated result;
  const CheckpointContent content = load_any(source, &result.checkpoint);
  const RunConfig run =
      parse_run_config(content.config_yaml, result.checkpoint + ": the configuration");
  ModelConfig config = run.model;
  if (is_of_dense_warmup(content)) config.feed_forward.kind = FeedForwardKind::kDense;
  const LanguageModel shapes(config, torch::TensorOptions(torch::kMeta));
  const NamedTensors weights = named_weights(*shapes);
  require_weights(content, weights, result.checkpoint);

  ModelDirectoryOptions options;
  options.load = [&](const std::string& name) { return whole_tensor(content, name); };
  options.tokenizer_path = find_tokenizer(run.data);
  write_model_directory(output, config, weights, options);
  result.step = content.step;
  result.tokenizer = options.tokenizer_path;
  for (const auto& [name, weight] : weights) result.num_parameters += weight.numel();
  return result;
}

}  // namespace lorikeet
