#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "lorikeet/data/tokenizer.h"
#include "lorikeet/evaluate/sampling.h"
#include "lorikeet/model/language_model.h"

namespace lorikeet {

struct GenerateOptions {
  int64_t max_tokens = 100;  ///< new ones; fewer where the model ends the text
  GenerationRouting routing = GenerationRouting::kPrompt;
  SamplingOptions sampling = {};
  int64_t eos = -1;        ///< the id that ends a text; -1: none
  int64_t vocab_size = 0;  ///< ids from here on are never drawn; 0: all may be
};

struct Generation {
  std::vector<int64_t> ids;     ///< the new ones, without EOS
  double prompt_seconds = 0.0;  ///< reading the prompt, merging included
  int64_t steps = 0;            ///< tokens that were fed back one at a time
  double step_seconds = 0.0;
};

/// Continues a sequence of token ids, with keys and values kept. Deterministic for a seed.
///
/// Prompt routing: the whole prompt decides once for each layer; each step then costs a dense
/// model's. Segment routing: what training computes, merged anew at every segment's border; a
/// first_segment of self_stop_gradient is decided by the prompt's part of it.
/// @throws Error(kUsage) for options out of range, an empty prompt, and segment routing of a model
/// with `sequence` routing; Error(kData) for ids outside the vocabulary; Error(kCheckpoint) where
/// the model's output is not finite
Generation generate(LanguageModel& model, const std::vector<int64_t>& prompt,
                    const GenerateOptions& options);

/// The text that `continuation` adds to `prompt`, with the space that may lie between them.
std::string continuation_text(const Tokenizer& tokenizer, const std::vector<int64_t>& prompt,
                              const std::vector<int64_t>& continuation);

}  // namespace lorikeet
