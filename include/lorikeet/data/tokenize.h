#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "lorikeet/data/jsonl_reader.h"

namespace lorikeet {

struct TokenizeOptions {
  std::vector<std::string> inputs;  ///< JSONL files, in this order
  std::string tokenizer;            ///< SentencePiece model; copied next to the shards
  std::string output;               ///< folder
  JsonlOptions jsonl = {};
  bool add_bos = true;              ///< in front of every document
  bool add_eos = true;              ///< behind every document
  double held_out = 0.01;           ///< share of the documents, see HeldOutRule
  int64_t shard_tokens = 64 << 20;  ///< a shard ends with the document that reaches this
  int64_t threads = 0;              ///< 0: all cores; the output is the same
  bool force = false;               ///< start over, whatever is in the folder
};

struct TokenizeReport {
  int64_t resumed_shards = 0;  ///< made before this call
  bool was_complete = false;   ///< nothing was left to do
  int64_t documents = 0;       ///< of this call, as the next three
  int64_t tokens = 0;
  int64_t text_bytes = 0;
  double seconds = 0;
};

/// Turns text into token shards (docs/data.md). A run that was killed goes on behind its last shard
/// when called again with the same inputs and options, and ends with the same bits; with others it
/// is refused.
/// @throws Error(kData) for bad input, a full disk, or an output folder of another run
TokenizeReport tokenize(const TokenizeOptions& options);

}  // namespace lorikeet
