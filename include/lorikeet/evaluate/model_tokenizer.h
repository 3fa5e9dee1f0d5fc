#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lorikeet/data/tokenizer.h"

namespace lorikeet {

/// The tokenizer.model of a model directory.
/// @throws Error(kCheckpoint) where it is missing or broken
Tokenizer load_model_tokenizer(const std::string& directory);

/// Token ids of a document's start: BOS, where the tokenizer has one, and the text.
std::vector<int64_t> encode_document(const Tokenizer& tokenizer, std::string_view text);

/// @throws std::invalid_argument naming the first id outside 0 .. vocab_size - 1 and its position
void check_token_ids(const std::vector<int64_t>& ids, int64_t vocab_size);

}  // namespace lorikeet
