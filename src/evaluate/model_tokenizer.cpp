#include "lorikeet/evaluate/model_tokenizer.h"

#include <fmt/format.h>

#include <filesystem>
#include <stdexcept>

#include "lorikeet/core/error.h"

namespace lorikeet {

Tokenizer load_model_tokenizer(const std::string& directory) {
  const std::string path = directory + "/tokenizer.model";
  if (!std::filesystem::exists(path)) {
    throw Error(ExitCode::kCheckpoint,
                fmt::format("{}: the model directory has no tokenizer.model", directory),
                "copy the SentencePiece model that it was trained with there");
  }
  try {
    return Tokenizer(path);
  } catch (const Error& error) {
    throw Error(ExitCode::kCheckpoint, error.what(), error.hint());
  }
}

std::vector<int64_t> encode_document(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<int64_t> ids;
  if (tokenizer.bos() >= 0) ids.push_back(tokenizer.bos());
  const std::vector<int32_t> pieces = tokenizer.encode(text);
  ids.insert(ids.end(), pieces.begin(), pieces.end());
  return ids;
}

void check_token_ids(const std::vector<int64_t>& ids, int64_t vocab_size) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocab_size) {
      throw std::invalid_argument(
          fmt::format("token id {} at position {} is out of range: the "
                      "model's vocabulary is 0 .. {}",
                      ids[i], i, vocab_size - 1));
    }
  }
}

}  // namespace lorikeet
