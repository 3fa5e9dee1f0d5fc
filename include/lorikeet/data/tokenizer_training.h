#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "lorikeet/data/jsonl_reader.h"

namespace lorikeet {

struct TokenizerTraining {
  std::vector<std::string> inputs;  ///< JSONL files
  std::string output;               ///< path of the model
  int64_t vocab_size = 32000;       ///< with <unk>, <s>, </s> and 256 byte pieces
  int64_t sample_bytes =
      0;  ///< of text to learn from, about; 0: all. Whole documents, by their hash
  JsonlOptions jsonl = {};
};

/// Trains a SentencePiece BPE model of LLaMA's kind: byte fallback, every digit a piece, no
/// normalisation, a space in front of the text, ids <unk> 0, <s> 1, </s> 2. Nothing of a text is
/// lost: see Tokenizer. Newlines and tabs are byte pieces. The same input gives the same file.
/// @throws Error(kData) for the input, Error(kUsage) for a vocabulary size the text does not allow
void train_tokenizer(const TokenizerTraining& options);

}  // namespace lorikeet
