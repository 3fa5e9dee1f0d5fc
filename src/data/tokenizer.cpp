#include "lorikeet/data/tokenizer.h"

#include <sentencepiece_processor.h>

#include <optional>

#include "bpe_encoder.h"
#include "lorikeet/core/error.h"
#include "lorikeet/core/file.h"
#include "lorikeet/core/hash.h"

namespace lorikeet {

struct Tokenizer::Model {
  std::string path;
  uint64_t hash = 0;
  sentencepiece::SentencePieceProcessor processor;
  std::optional<BpeEncoder> encoder;  ///< where it can speak for the model
};

Tokenizer::Tokenizer(const std::string& path) {
  const std::string bytes = read_text_file(path, ExitCode::kData);
  auto model = std::make_shared<Model>();
  model->path = path;
  model->hash = hash64(bytes);
  try {
    SentencePieceModel parsed = parse_sentencepiece_model(bytes);
    if (parsed.pieces.empty()) {
      throw std::invalid_argument("has no pieces");
    }
    if (const auto status = model->processor.LoadFromSerializedProto(bytes); !status.ok()) {
      throw std::invalid_argument("its pieces or settings contradict each other");
    }
    if (BpeEncoder::supports(parsed)) {
      model->encoder.emplace(std::move(parsed));
    }
  } catch (const std::invalid_argument& error) {
    throw Error(ExitCode::kData,
                fmt::format("{}: is not a SentencePiece model: {}", path, error.what()),
                "give a .model file, such as `lorikeet data tokenizer` writes");
  }
  model_ = std::move(model);
}

const std::string& Tokenizer::path() const { return model_->path; }
uint64_t Tokenizer::hash() const { return model_->hash; }
int64_t Tokenizer::vocab_size() const { return model_->processor.GetPieceSize(); }
int32_t Tokenizer::bos() const { return model_->processor.bos_id(); }
int32_t Tokenizer::eos() const { return model_->processor.eos_id(); }
int32_t Tokenizer::unknown() const { return model_->processor.unk_id(); }

void Tokenizer::require_id(int32_t id) const {
  if (id < 0 || id >= vocab_size()) {
    throw Error(ExitCode::kData,
                fmt::format("token id {} is not in the vocabulary of {}: 0 .. {}", id, path(),
                            vocab_size() - 1),
                "the ids come from another tokenizer");
  }
}

const std::string& Tokenizer::piece(int32_t id) const {
  require_id(id);
  return model_->processor.IdToPiece(id);
}

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
  if (model_->encoder) {
    return model_->encoder->encode(text);
  }
  std::vector<int> ids;
  const auto status = model_->processor.Encode({text.data(), text.size()}, &ids);
  if (!status.ok()) {
    throw Error(ExitCode::kData,
                fmt::format("{}: cannot encode: {}", path(), status.error_message()));
  }
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids) const {
  for (const int32_t id : ids) {
    require_id(id);
  }
  std::string text;
  const auto status = model_->processor.Decode(std::vector<int>(ids.begin(), ids.end()), &text);
  if (!status.ok()) {
    throw Error(ExitCode::kData,
                fmt::format("{}: cannot decode: {}", path(), status.error_message()));
  }
  return text;
}

}  // namespace lorikeet
