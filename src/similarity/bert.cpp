// B texts, L tokens, D model, H heads, K = D / H.
#include "lorikeet/similarity/bert.h"

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

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
  Weights(const std::string& directory, at::ScalarType dtype) : reader_(directory), dtype_(dtype) {
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
    return reader_.load(full).to(dtype_);
  }

 private:
  ModelReader reader_;
  at::ScalarType dtype_;
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
  const BertConfig config{.vocab_size = count("vocab_size"),
                          .hidden_size = count("hidden_size"),
                          .num_layers = count("num_hidden_layers"),
                          .num_heads = count("num_attention_heads"),
                          .intermediate_size = count("intermediate_size"),
                          .max_positions = count("max_position_embeddings"),
                          .num_token_types = count("type_vocab_size"),
                          .norm_eps = json.value("layer_norm_eps", 1e-12)};
  if (config.hidden_size % config.num_heads != 0) {
    refuse(path, fmt::format("hidden_size: {} is not a multiple of num_attention_heads {}",
                             config.hidden_size, config.num_heads));
  }
  return config;
}

at::Tensor Bert::Dense::operator()(const at::Tensor& x) const {
  return at::linear(x, weight, bias);
}

at::Tensor Bert::Norm::operator()(const at::Tensor& x, double eps) const {
  return at::layer_norm(x, {x.size(-1)}, weight, bias, eps);
}

Bert::Bert(const std::string& directory, at::ScalarType dtype)
    : config_(read_bert_config(directory)), dtype_(dtype) {
  const Weights weights(directory, dtype);
  const int64_t hidden = config_.hidden_size;
  const auto dense = [&](const std::string& name, int64_t in, int64_t out) {
    return Dense{weights.load(name + ".weight", {out, in}), weights.load(name + ".bias", {out})};
  };
  const auto norm = [&](const std::string& name) {
    return Norm{weights.load(name + ".LayerNorm.weight", {hidden}),
                weights.load(name + ".LayerNorm.bias", {hidden})};
  };
  word_embeddings_ =
      weights.load("embeddings.word_embeddings.weight", {config_.vocab_size, hidden});
  position_embeddings_ =
      weights.load("embeddings.position_embeddings.weight", {config_.max_positions, hidden}) +
      weights.load("embeddings.token_type_embeddings.weight", {config_.num_token_types, hidden})[0];
  embedding_norm_ = norm("embeddings");
  for (int64_t i = 0; i < config_.num_layers; ++i) {
    const std::string layer = fmt::format("encoder.layer.{}.", i);
    const Dense query = dense(layer + "attention.self.query", hidden, hidden);
    const Dense key = dense(layer + "attention.self.key", hidden, hidden);
    const Dense value = dense(layer + "attention.self.value", hidden, hidden);
    layers_.push_back(
        {.query_key_value = {at::cat({query.weight, key.weight, value.weight}),
                             at::cat({query.bias, key.bias, value.bias})},
         .attention_output = dense(layer + "attention.output.dense", hidden, hidden),
         .attention_norm = norm(layer + "attention.output"),
         .intermediate = dense(layer + "intermediate.dense", hidden, config_.intermediate_size),
         .output = dense(layer + "output.dense", config_.intermediate_size, hidden),
         .output_norm = norm(layer + "output")});
  }
}

at::Tensor Bert::attend(const Layer& layer, const at::Tensor& x_BLD,
                        const std::optional<at::Tensor>& mask) const {
  const int64_t batch = x_BLD.size(0);
  const int64_t length = x_BLD.size(1);
  const at::Tensor qkv_3BHLK =
      layer.query_key_value(x_BLD)
          .view({batch, length, 3, config_.num_heads, config_.hidden_size / config_.num_heads})
          .permute({2, 0, 3, 1, 4});
  const at::Tensor y_BHLK =
      at::scaled_dot_product_attention(qkv_3BHLK[0], qkv_3BHLK[1], qkv_3BHLK[2], mask);
  return layer.attention_output(
      y_BHLK.transpose(1, 2).reshape({batch, length, config_.hidden_size}));
}

at::Tensor Bert::embed(const at::Tensor& ids_BL, const at::Tensor& lengths_B) const {
  const at::NoGradGuard no_grad;
  const int64_t length = ids_BL.size(1);
  const at::Tensor is_token_BL =
      at::arange(length, ids_BL.options()).unsqueeze(0) < lengths_B.unsqueeze(1);
  std::optional<at::Tensor> mask;  // none where every place is a token
  if (!is_token_BL.all().item<bool>()) {
    mask = at::zeros({ids_BL.size(0), 1, 1, length}, ids_BL.options().dtype(dtype_))
               .masked_fill_(is_token_BL.logical_not().view({-1, 1, 1, length}), -INFINITY);
  }
  at::Tensor x_BLD = embedding_norm_(
      at::embedding(word_embeddings_, ids_BL) + position_embeddings_.narrow(0, 0, length),
      config_.norm_eps);
  for (const Layer& layer : layers_) {
    x_BLD = layer.attention_norm(x_BLD + attend(layer, x_BLD, mask), config_.norm_eps);
    const at::Tensor wide = at::gelu(layer.intermediate(x_BLD));
    x_BLD = layer.output_norm(x_BLD + layer.output(wide), config_.norm_eps);
  }
  const at::Tensor weights_BL1 = is_token_BL.to(at::kFloat).unsqueeze(-1);
  return (x_BLD.to(at::kFloat) * weights_BL1).sum(1) / weights_BL1.sum(1);
}

}  // namespace lorikeet
