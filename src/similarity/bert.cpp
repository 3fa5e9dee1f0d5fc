// B texts, N tokens of all of them, D model.
#include "lorikeet/similarity/bert.h"

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "lorikeet/ops/functions.h"
#include "lorikeet/storage/model_directory.h"

namespace lorikeet {

namespace {

using Json = nlohmann::json;

constexpr char kHint[] =
    "an encoder is a directory of a BERT-family model: config.json, model.safetensors, vocab.txt";

[[noreturn]] void refuse(const std::string& path, const std::string& what) {
  throw Error(ExitCode::kCheckpoint, fmt::format("{}: {}", path, what), kHint);
}

// Reads named tensors and checks their shapes.
class Weights {
 public:
  Weights(const std::string& directory, const at::TensorOptions& options)
      : reader_(directory), options_(options) {
    prefix_ = reader_.contains("bert.embeddings.word_embeddings.weight") ? "bert." : "";
  }
  at::Tensor load(const std::string& name, const std::vector<int64_t>& shape) const {
    const std::string full = prefix_ + name;
    if (!reader_.contains(full)) {
      refuse(reader_.directory(), fmt::format("the weights have no tensor {}", full));
    }
    const TensorInfo& info = reader_.info(full);
    if (info.shape != shape) {
      refuse(reader_.directory(), fmt::format("{} is {}, config.json asks for {}", full,
                                              to_string(info), shape_text(shape)));
    }
    return reader_.load(full).to(options_);
  }

 private:
  ModelReader reader_;
  at::TensorOptions options_;
  std::string prefix_;
};

}  // namespace

BertConfig read_bert_config(const std::string& directory) {
  const std::string path = (std::filesystem::path(directory) / "config.json").string();
  const Json json =
      Json::parse(read_text_file(path, ExitCode::kCheckpoint), nullptr, /*throw=*/false);
  if (!json.is_object()) {
    refuse(path, "is not a JSON object");
  }
  const auto text = [&](const char* key, const std::string& otherwise) {
    const auto found = json.find(key);
    return found != json.end() && found->is_string() ? found->get<std::string>() : otherwise;
  };
  const auto count = [&](const char* key) {
    const auto found = json.find(key);
    if (found == json.end() || !found->is_number_integer() || found->get<int64_t>() < 1) {
      refuse(path, fmt::format("{}: is missing or no whole number from 1 on", key));
    }
    return found->get<int64_t>();
  };
  if (const std::string type = text("model_type", "bert"); type != "bert") {
    refuse(path, fmt::format("model_type: '{}' is not bert", type));
  }
  if (const std::string act = text("hidden_act", "gelu"); act != "gelu") {
    refuse(path, fmt::format("hidden_act: '{}' is not gelu", act));
  }
  if (const std::string kind = text("position_embedding_type", "absolute"); kind != "absolute") {
    refuse(path, fmt::format("position_embedding_type: '{}' is not absolute", kind));
  }
  double norm_eps = 1e-12;
  if (const auto found = json.find("layer_norm_eps"); found != json.end()) {
    if (!found->is_number()) refuse(path, "layer_norm_eps: is not a number");
    norm_eps = found->get<double>();
  }
  const BertConfig config{.vocab_size = count("vocab_size"),
                          .hidden_size = count("hidden_size"),
                          .num_layers = count("num_hidden_layers"),
                          .num_heads = count("num_attention_heads"),
                          .intermediate_size = count("intermediate_size"),
                          .max_positions = count("max_position_embeddings"),
                          .num_token_types = count("type_vocab_size"),
                          .norm_eps = norm_eps};
  if (config.max_positions < 3) {
    refuse(path, fmt::format("max_position_embeddings: {} leaves no room for a token between [CLS] "
                             "and [SEP]; at least 3",
                             config.max_positions));
  }
  if (config.hidden_size % config.num_heads != 0) {
    refuse(path, fmt::format("hidden_size: {} is not a multiple of num_attention_heads {}",
                             config.hidden_size, config.num_heads));
  }
  return config;
}

Bert::Bert(const std::string& directory, at::ScalarType dtype, at::Device device)
    : config_(read_bert_config(directory)) {
  const Weights weights(directory, at::TensorOptions(dtype).device(device));
  const int64_t hidden = config_.hidden_size;
  const auto linear = [&](const std::string& name, int64_t in, int64_t out) {
    return ops::EncoderLayer::Linear{weights.load(name + ".weight", {out, in}),
                                     weights.load(name + ".bias", {out})};
  };
  const auto norm = [&](const std::string& name) {
    return ops::EncoderLayer::Norm{weights.load(name + ".LayerNorm.weight", {hidden}),
                                   weights.load(name + ".LayerNorm.bias", {hidden})};
  };
  word_embeddings_ =
      weights.load("embeddings.word_embeddings.weight", {config_.vocab_size, hidden});
  position_embeddings_ =
      weights.load("embeddings.position_embeddings.weight", {config_.max_positions, hidden}) +
      weights.load("embeddings.token_type_embeddings.weight", {config_.num_token_types, hidden})[0];
  embedding_norm_ = norm("embeddings");
  std::vector<ops::EncoderLayer> layers;
  for (int64_t i = 0; i < config_.num_layers; ++i) {
    const std::string layer = fmt::format("encoder.layer.{}.", i);
    const auto query = linear(layer + "attention.self.query", hidden, hidden);
    const auto key = linear(layer + "attention.self.key", hidden, hidden);
    const auto value = linear(layer + "attention.self.value", hidden, hidden);
    layers.push_back(
        {.query_key_value = {at::cat({query.weight, key.weight, value.weight}),
                             at::cat({query.bias, key.bias, value.bias})},
         .attention_output = linear(layer + "attention.output.dense", hidden, hidden),
         .attention_norm = norm(layer + "attention.output"),
         .intermediate = linear(layer + "intermediate.dense", hidden, config_.intermediate_size),
         .output = linear(layer + "output.dense", config_.intermediate_size, hidden),
         .output_norm = norm(layer + "output")});
  }
  encoder_.emplace(std::move(layers), config_.num_heads, config_.norm_eps);
}

at::Tensor Bert::embed(const at::Tensor& ids_N, at::IntArrayRef offsets) const {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> positions;
  for (size_t b = 1; b < offsets.size(); ++b) {
    positions.push_back(position_embeddings_.narrow(0, 0, offsets[b] - offsets[b - 1]));
  }
  const at::Tensor words_ND = at::embedding(word_embeddings_, ids_N.to(word_embeddings_.device()));
  const at::Tensor x_ND =
      at::layer_norm(words_ND + at::cat(positions), {config_.hidden_size}, embedding_norm_.weight,
                     embedding_norm_.bias, config_.norm_eps);
  return ops::segment_mean((*encoder_)(x_ND, offsets), offsets).to(at::kCPU);
}

}  // namespace lorikeet
