#include "lorikeet/evaluate/score.h"

#include <fmt/format.h>
#include <torch/torch.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "lorikeet/core/error.h"
#include "lorikeet/core/file.h"
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

ScoreRequest parse_request(const std::string& text, int64_t vocab_size) {
  const auto line = nlohmann::json::parse(text);
  if (!line.is_object() || !line.contains("ids")) {
    throw std::invalid_argument("not an object with \"ids\"");
  }
  ScoreRequest request;
  request.ids = integers(line, "ids");
  for (size_t i = 0; i < request.ids.size(); ++i) {
    if (request.ids[i] < 0 || request.ids[i] >= vocab_size) {
      throw std::invalid_argument(
          fmt::format("token id {} at position {} is out of range: the "
                      "model's vocabulary is 0 .. {}",
                      request.ids[i], i, vocab_size - 1));
    }
  }
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
  return request;
}

std::string response_line(const std::vector<double>& logprobs) {
  for (const double value : logprobs) {
    if (!std::isfinite(value)) {
      throw Error(ExitCode::kCheckpoint, "the model gives a log-probability that is not finite",
                  "its weights may hold NaN or infinite values");
    }
  }
  return nlohmann::json{{"logprobs", logprobs}}.dump() + "\n";
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

int64_t score_file(LanguageModel& model, const std::string& input, const std::string& output) {
  std::ifstream in(input);
  if (!in) {
    throw Error(ExitCode::kData, fmt::format("{}: cannot be opened", input), "check the path");
  }
  AtomicFile out(output, ExitCode::kData);
  std::string text;
  int64_t line = 0, scored = 0;
  while (std::getline(in, text)) {
    ++line;
    if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
    ScoreRequest request;
    try {
      request = parse_request(text, model->config().vocab_size);
    } catch (const nlohmann::json::exception& error) {
      throw Error(ExitCode::kData, fmt::format("{}:{}: not JSON: {}", input, line, error.what()),
                  "each line is one object like {\"ids\": [1, 2, 3]}");
    } catch (const std::invalid_argument& error) {
      throw Error(ExitCode::kData, fmt::format("{}:{}: {}", input, line, error.what()),
                  "each line is one object like {\"ids\": [1, 2, 3]}");
    }
    out.write(response_line(score_tokens(model, request)));
    ++scored;
  }
  if (in.bad()) throw Error(ExitCode::kData, fmt::format("{}: could not be read", input));
  out.commit();
  return scored;
}

}  // namespace lorikeet
