#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "lorikeet/data/tokenizer.h"

namespace lorikeet {

/// Words of a tokenised document, as hashes, without decoding it: letters and digits in a row,
/// ASCII letters in lower case. Everything else separates words; characters of scripts that are
/// written without spaces (CJK, kana, Hangul) are a word each. Two words share a hash with
/// probability 2^-32.
class WordSplitter {
 public:
  explicit WordSplitter(const Tokenizer& tokenizer);

  /// Replaces `words` by the hashes of the document's words, in their order.
  void split(std::span<const int32_t> ids, std::vector<uint32_t>& words) const;

 private:
  std::vector<std::string> pieces_;  ///< per id, separators as ' '; of byte pieces, the byte
  std::vector<bool> is_byte_;        ///< per id
};

}  // namespace lorikeet
