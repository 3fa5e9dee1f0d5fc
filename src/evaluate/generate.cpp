// V vocabulary, D model.
#include "lorikeet/evaluate/generate.h"

#include <fmt/format.h>
#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <stdexcept>

#include "lorikeet/core/error.h"
#include "lorikeet/core/log.h"
#include "lorikeet/core/measure.h"
#include "lorikeet/evaluate/model_tokenizer.h"

namespace lorikeet {

namespace {

void check_request(const ModelConfig& config, const std::vector<int64_t>& prompt,
                   const GenerateOptions& options) {
  check_sampling(options.sampling);
  if (options.max_tokens < 1) {
    throw Error(ExitCode::kUsage, fmt::format("max-tokens: {} is below 1", options.max_tokens),
                "say how many tokens to write");
  }
  if (config.is_merged() && config.feed_forward.routing == Routing::kSequence &&
      options.routing == GenerationRouting::kSegment) {
    throw Error(ExitCode::kUsage,
                "routing: segment is not possible: the model routes whole sequences (routing: "
                "sequence in its config.json)",
                "use routing prompt");
  }
  if (prompt.empty()) {
    throw Error(ExitCode::kUsage, "the prompt is empty, and the tokenizer has no BOS token",
                "give at least one token to continue");
  }
  try {
    check_token_ids(prompt, config.vocab_size);
  } catch (const std::invalid_argument& error) {
    throw Error(ExitCode::kData, fmt::format("prompt: {}", error.what()),
                "the model directory's tokenizer.model may belong to another model");
  }
}

void warn_beyond_context(int64_t prompt, int64_t max_tokens, int64_t context_length) {
  if (max_tokens - 1 <= context_length - prompt) return;  // the last one is never an input
  log_warning(
      "{} prompt tokens and up to {} new ones go beyond the {} positions that the model was "
      "trained on",
      prompt, max_tokens, context_length);
}

/// Adds tokens to one sequence and gives the logits of what follows, fp32 on the CPU.
class Continuation {
 public:
  Continuation(LanguageModel& model, GenerationRouting routing)
      : model_(model), state_(model->start_sequence(routing)) {}

  torch::Tensor extend(const std::vector<int64_t>& ids) {
    const torch::Tensor ids_1L = torch::tensor(ids, torch::kLong).unsqueeze(0).to(model_->device());
    const torch::Tensor hidden_1LD = model_->extend(ids_1L, state_);
    const torch::Tensor logits_V = model_->logits(hidden_1LD.select(1, hidden_1LD.size(1) - 1))
                                       .squeeze(0)
                                       .to(torch::kCPU, torch::kFloat32)
                                       .contiguous();
    if (!torch::isfinite(logits_V).all().item<bool>()) {
      throw Error(
          ExitCode::kCheckpoint,
          fmt::format("the model gives logits that are not finite after {} tokens", state_.length),
          "its weights may hold NaN or infinite values");
    }
    return logits_V;
  }

 private:
  LanguageModel model_;
  SequenceState state_;
};

}  // namespace

Generation generate(LanguageModel& model, const std::vector<int64_t>& prompt,
                    const GenerateOptions& options) {
  const ModelConfig& config = model->config();
  check_request(config, prompt, options);
  warn_beyond_context(static_cast<int64_t>(prompt.size()), options.max_tokens,
                      config.context_length);
  const torch::NoGradGuard no_grad;
  const int64_t drawable =
      options.vocab_size > 0 ? std::min(options.vocab_size, config.vocab_size) : config.vocab_size;
  Sampler sampler(options.sampling);
  Continuation continuation(model, options.routing);
  Generation result;
  auto start = std::chrono::steady_clock::now();
  torch::Tensor logits_V = continuation.extend(prompt);
  result.prompt_seconds = seconds_since(start);
  start = std::chrono::steady_clock::now();
  while (true) {
    const int64_t id =
        sampler.next({logits_V.const_data_ptr<float>(), static_cast<size_t>(drawable)});
    if (id == options.eos) break;
    result.ids.push_back(id);
    if (static_cast<int64_t>(result.ids.size()) == options.max_tokens) break;
    logits_V = continuation.extend({id});
    ++result.steps;
  }
  result.step_seconds = seconds_since(start);
  return result;
}

std::string continuation_text(const Tokenizer& tokenizer, const std::vector<int64_t>& prompt,
                              const std::vector<int64_t>& continuation) {
  // Decoded together: on its own a continuation would lose the space in front of it.
  std::vector<int32_t> ids(prompt.begin(), prompt.end());
  const std::string before = tokenizer.decode(ids);
  ids.insert(ids.end(), continuation.begin(), continuation.end());
  const std::string all = tokenizer.decode(ids);
  if (all.starts_with(before)) return all.substr(before.size());
  return tokenizer.decode(std::vector<int32_t>(continuation.begin(), continuation.end()));
}

}  // namespace lorikeet
