#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace lorikeet {

/// The tokenizer of BERT's family: text cleaned, lower-cased without accents (where the model says
/// so), split at spaces and punctuation, and each word cut into the longest pieces there are. Ids
/// equal those of Hugging Face's BertTokenizer. Safe to use from several threads.
class WordPiece {
 public:
  /// Reads vocab.txt, or tokenizer.json where there is none, and from tokenizer_config.json, else
  /// from that tokenizer.json, whether case and accents are kept.
  /// @throws Error(kCheckpoint) where neither is there, one of them is broken or of another kind of
  /// tokenizer, or [CLS], [SEP] or [UNK] is missing
  explicit WordPiece(const std::string& model_directory);

  /// Without [CLS] and [SEP]; stops at `max_tokens`.
  std::vector<int32_t> encode(std::string_view text, size_t max_tokens) const;

  int32_t cls() const { return cls_; }
  int32_t sep() const { return sep_; }
  int64_t vocab_size() const { return vocab_size_; }

 private:
  void read_vocabulary(const std::string& directory);
  void read_settings(const std::string& directory);
  std::string normalise(std::string_view text) const;
  void append_word(std::string_view word, std::vector<int32_t>& ids) const;

  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  std::unordered_map<std::string, int32_t, Hash, std::equal_to<>> pieces_;
  size_t longest_piece_ = 0;  ///< bytes
  int64_t vocab_size_ = 0;
  bool lowercases_ = true;
  std::optional<bool> strips_accents_;  ///< none: with the case
  int32_t cls_ = -1;
  int32_t sep_ = -1;
  int32_t unknown_ = -1;
};

}  // namespace lorikeet
