#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lorikeet {

/// A SentencePiece model: text to token ids and back. Thread-safe; cheap to copy.
///
/// Ids equal those of the SentencePiece library. With models that `lorikeet data tokenizer` trains
/// (and LLaMA's), decode(encode(text)) == text for every UTF-8 text.
class Tokenizer {
 public:
  /// @throws Error(kData) where the file is missing or is not a SentencePiece model
  explicit Tokenizer(const std::string& path);

  const std::string& path() const;
  uint64_t hash() const;  ///< hash64 of the file
  int64_t vocab_size() const;
  int32_t bos() const;  ///< -1: the model has none; so for eos and unknown
  int32_t eos() const;
  int32_t unknown() const;
  const std::string& piece(int32_t id) const;

  /// Without BOS and EOS.
  std::vector<int32_t> encode(std::string_view text) const;
  /// BOS, EOS and other control tokens give no text. @throws Error(kData) for an id outside the
  /// vocabulary
  std::string decode(std::span<const int32_t> ids) const;

 private:
  struct Model;
  void require_id(int32_t id) const;
  std::shared_ptr<const Model> model_;
};

}  // namespace lorikeet
