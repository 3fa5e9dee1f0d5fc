#include "lorikeet/evaluate/score.h"

#include <fmt/format.h>
#include <torch/torch.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>

#include "lorikeet/core/error.h"
#include "lorikeet/core/json_problem.h"
#include "lorikeet/evaluate/model_tokenizer.h"
#include "lorikeet/ops/functions.h"

namespace lorikeet {

namespace {

constexpr int64_t kLogitRows = 1024;  // logits of so many tokens are held at once

/// Documents that cover `count` ids, cut to the inputs: all ids but the last.
std::vector<DocumentLengths> input_documents(const ScoreRequest& request) {
  if (request.document_lengths.empty()) return {};
  DocumentLengths row = request.document_lengths;
  if (--row.back() == 0) row.pop_back();
  return {row};
}

std::vector<int64_t> integers(const nlohmann::json& line, const char* key) {
  const auto& list = line.at(key);
  if (!list.is_array()) throw std::invalid_argument(fmt::format("\"{}\" must be a list", key));
  std::vector<int64_t> values;
  values.reserve(list.size());
  for (const auto& item : list) {
    if (!item.is_number_integer() ||
        (item.is_number_unsigned() && item.get<uint64_t>() > INT64_MAX)) {
      throw std::invalid_argument(
          fmt::format("\"{}\" holds {}, not a whole number", key, item.dump().substr(0, 40)));
    }
    values.push_back(item.get<int64_t>());
  }
  return values;
}

/// The model directory's tokenizer, opened when a text first needs it.
class LazyTokenizer {
 public:
  explicit LazyTokenizer(std::string directory) : directory_(std::move(directory)) {}
  const Tokenizer& get() {
    if (!tokenizer_) tokenizer_ = load_model_tokenizer(directory_);
    return *tokenizer_;
  }

 private:
  std::string directory_;
  std::optional<Tokenizer> tokenizer_;
};

struct InputLine {
  ScoreRequest request;
  bool is_text = false;
};

InputLine parse_line(const std::string& text, int64_t vocab_size, LazyTokenizer& tokenizer) {
  const auto line = nlohmann::json::parse(text);
  if (!line.is_object() || line.contains("ids") == line.contains("text")) {
    throw std::invalid_argument("not an object with either \"ids\" or \"text\"");
  }
  InputLine parsed{.request = {}, .is_text = line.contains("text")};
  ScoreRequest& request = parsed.request;
  if (parsed.is_text) {
    if (!line["text"].is_string()) throw std::invalid_argument("\"text\" must be a string");
    request.ids = encode_document(tokenizer.get(), line["text"].get_ref<const std::string&>());
  } else {
    request.ids = integers(line, "ids");
  }
  check_token_ids(request.ids, vocab_size);
  if (line.contains("document_lengths")) {
    request.document_lengths = integers(line, "document_lengths");
    int64_t left = static_cast<int64_t>(request.ids.size());
    bool positive = true;
    for (const int64_t length : request.document_lengths) {
      positive = positive && length > 0 && length <= left;
      left -= positive ? length : 0;
    }
    if (!positive || left != 0) {
      throw std::invalid_argument(fmt::format(
          "\"document_lengths\" must be positive and add up to the {} ids", request.ids.size()));
    }
  }
  return parsed;
}

std::string response_line(const InputLine& line, const std::vector<double>& logprobs) {
  for (const double value : logprobs) {
    if (!std::isfinite(value)) {
      throw Error(ExitCode::kCheckpoint, "the model gives a log-probability that is not finite",
                  "its weights may hold NaN or infinite values");
    }
  }
  nlohmann::json response{{"logprobs", logprobs}};
  if (line.is_text) response["ids"] = line.request.ids;
  return response.dump() + "\n";
}

}  // namespace

std::vector<double> score_tokens(LanguageModel& model, const ScoreRequest& request) {
  const auto count = static_cast<int64_t>(request.ids.size());
  if (count < 2) return {};
  const torch::NoGradGuard no_grad;
  const torch::Tensor ids = torch::tensor(request.ids, torch::kLong).to(model->device());
  const auto output =
      model->forward(ids.narrow(0, 0, count - 1).unsqueeze(0), input_documents(request));
  const torch::Tensor hidden = output.hidden_BLD[0], targets = ids.narrow(0, 1, count - 1);
  std::vector<double> logprobs;
  logprobs.reserve(count - 1);
  for (int64_t begin = 0; begin < count - 1; begin += kLogitRows) {
    const int64_t rows = std::min(kLogitRows, count - 1 - begin);
    const torch::Tensor losses = ops::token_losses(model->logits(hidden.narrow(0, begin, rows)),
                                                   targets.narrow(0, begin, rows))
                                     .to(torch::kCPU, torch::kDouble)
                                     .contiguous();
    for (int64_t i = 0; i < rows; ++i) logprobs.push_back(-losses.data_ptr<double>()[i]);
  }
  return logprobs;
}

int64_t score_lines(LanguageModel& model, const std::string& model_directory, LineFiles& files) {
  const std::string hint =
      "each line is one object like {\"ids\": [1, 2, 3]} or {\"text\": \"Once\"}";
  LazyTokenizer tokenizer(model_directory);
  std::string text;
  int64_t scored = 0;
  while (files.read(text)) {
    if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
    InputLine parsed;
    try {
      parsed = parse_line(text, model->config().vocab_size, tokenizer);
    } catch (const nlohmann::json::exception& error) {
      throw Error(ExitCode::kData, fmt::format("{}: {}", files.position(), json_problem(error)),
                  hint);
    } catch (const std::invalid_argument& error) {
      throw Error(ExitCode::kData, fmt::format("{}: {}", files.position(), error.what()), hint);
    }
    files.write(response_line(parsed, score_tokens(model, parsed.request)));
    ++scored;
  }
  files.commit();
  return scored;
}

}  // namespace lorikeet
