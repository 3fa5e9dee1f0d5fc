#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "lorikeet/evaluate/line_files.h"
#include "lorikeet/model/language_model.h"

namespace lorikeet {

/// One line of `score`'s input: token ids, and the lengths of the documents among them (empty: one
/// document).
struct ScoreRequest {
  std::vector<int64_t> ids;
  DocumentLengths document_lengths;
};

/// Natural logarithm of the probability of each id after the first, given those before it; routed
/// exactly as in training, where the last id of a context is a target and never an input.
/// @return ids.size() - 1 values; none for fewer than two ids
std::vector<double> score_tokens(LanguageModel& model, const ScoreRequest& request);

/// JSON lines {"ids": [...]} -> {"logprobs": [...]}, and {"text": "..."} -> {"ids": [...],
/// "logprobs": [...]} with BOS first, in the same order. Both may carry "document_lengths" (in
/// tokens). An output file appears when all is done, a standard stream gets each line at once.
/// @param model_directory whose tokenizer.model reads text; not looked at where there is none
/// @return lines scored. @throws Error(kData) with file and line: broken JSON, wrong types, ids out
/// of range; Error(kCheckpoint) where text needs a tokenizer that is missing or broken
int64_t score_lines(LanguageModel& model, const std::string& model_directory, LineFiles& files);

}  // namespace lorikeet
