#include "lorikeet/evaluate/score.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "lorikeet/core/file.h"
#include "lorikeet/evaluate/model_tokenizer.h"
#include "lorikeet/model/initialise.h"
#include "lorikeet/model/load.h"
#include "tests/core/temporary_folder.h"
#include "tests/evaluate/test_tokenizer.h"

namespace lorikeet {
namespace {

using ::testing::HasSubstr;

ModelConfig tiny_config() {
  ModelConfig config;
  config.hidden_size = 16;
  config.num_layers = 2;
  config.num_heads = 2;
  config.ffn_size = 24;
  config.vocab_size = 50;
  config.context_length = 16;
  config.init_std = 0.3;
  config.feed_forward.kind = FeedForwardKind::kMerged;
  config.feed_forward.num_experts = 3;
  config.feed_forward.segment_length = 4;
  config.feed_forward.router_init_std = 1.0;
  return config;
}

LanguageModel tiny_model(const ModelConfig& config = tiny_config()) {
  LanguageModel model(config);
  initialise_parameters(*model, 1);
  model->eval();
  return model;
}

class ScoreFile : public ::testing::Test {
 protected:
  std::string write(const std::string& text) const {
    const std::string path = folder_.path() + "/in.jsonl";
    write_file_atomically(path, text, ExitCode::kData);
    return path;
  }
  /// Of the model; without a tokenizer unless `add_tokenizer` is called.
  std::string directory() const { return folder_.path(); }
  void add_tokenizer() const {
    std::filesystem::copy_file(testing::tiny_tokenizer(), directory() + "/tokenizer.model");
  }
  std::string output() const { return folder_.path() + "/out.jsonl"; }
  int64_t score(LanguageModel& model, const std::string& input) const {
    LineFiles files(input, output());
    return score_lines(model, directory(), files);
  }
  /// The message for a file whose second line is bad; nothing may have been written.
  std::string refusal(const std::string& bad_line) {
    LanguageModel model = tiny_model();
    const std::string input = write("{\"ids\": [1, 2, 3]}\n" + bad_line + "\n");
    try {
      score(model, input);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kData);
      EXPECT_FALSE(std::filesystem::exists(output()));
      EXPECT_THAT(error.what(), HasSubstr("in.jsonl:2: "));
      return error.what();
    }
    return "no error";
  }
  testing::TemporaryFolder folder_;
};

TEST(ScoreTokens, AreLogProbabilitiesOfEachNextId) {
  LanguageModel model = tiny_model();
  const std::vector<int64_t> ids = {1, 7, 3, 49, 0, 12, 5};
  const auto logprobs = score_tokens(model, {ids, {}});
  ASSERT_EQ(logprobs.size(), 6u);
  const torch::NoGradGuard no_grad;
  const torch::Tensor inputs = torch::tensor(ids).unsqueeze(0).narrow(1, 0, 6);
  const torch::Tensor expected =
      torch::log_softmax(model->logits(model->forward(inputs).hidden_BLD), -1)[0];
  for (size_t i = 0; i < logprobs.size(); ++i) {
    EXPECT_NEAR(logprobs[i], expected[i][ids[i + 1]].item<double>(), 1e-5);
  }
}

TEST(ScoreTokens, ProbabilitiesOfAllContinuationsAddUpToOne) {
  LanguageModel model = tiny_model();
  double sum = 0;
  for (int64_t last = 0; last < 50; ++last) {
    sum += std::exp(score_tokens(model, {{4, 8, 15, 16, 23, last}, {}}).back());
  }
  EXPECT_NEAR(sum, 1, 1e-5);
}

TEST(ScoreTokens, FewerThanTwoIdsHaveNone) {
  LanguageModel model = tiny_model();
  EXPECT_TRUE(score_tokens(model, {{}, {}}).empty());
  EXPECT_TRUE(score_tokens(model, {{5}, {}}).empty());
}

TEST(ScoreTokens, LongerThanTheContextWorks) {
  LanguageModel model = tiny_model();
  const std::vector<int64_t> ids(3000, 7);
  EXPECT_EQ(score_tokens(model, {ids, {}}).size(), 2999u);
}

TEST(ScoreTokens, DocumentsInOneRequestScoreAsAlone) {
  ModelConfig config = tiny_config();
  config.feed_forward.segment_scope = Scope::kDocument;
  config.feed_forward.first_segment = FirstSegment::kLearned;
  config.attention_scope = Scope::kDocument;
  LanguageModel model = tiny_model(config);
  const std::vector<int64_t> first = {1, 2, 3, 4, 5, 6}, second = {9, 8, 7, 6, 5, 4, 3};
  std::vector<int64_t> both = first;
  both.insert(both.end(), second.begin(), second.end());
  const auto together = score_tokens(model, {both, {6, 7}});
  const auto a = score_tokens(model, {first, {}}), b = score_tokens(model, {second, {}});
  for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(together[i], a[i], 1e-5);
  for (size_t i = 0; i < b.size(); ++i) EXPECT_NEAR(together[6 + i], b[i], 1e-5);
}

TEST_F(ScoreFile, GivesALineForEachLine) {
  LanguageModel model = tiny_model();
  const std::string input = write("{\"ids\": [1, 2, 3]}\n\n{\"ids\": [4]}\r\n{\"ids\": [5, 6]}");
  EXPECT_EQ(score(model, input), 3);
  std::istringstream lines(read_text_file(output(), ExitCode::kData));
  std::vector<size_t> counts;
  for (std::string line; std::getline(lines, line);) {
    counts.push_back(nlohmann::json::parse(line).at("logprobs").size());
  }
  EXPECT_THAT(counts, ::testing::ElementsAre(2, 0, 1));
}

TEST_F(ScoreFile, RefusesWhatIsNoRequestWithFileAndLine) {
  EXPECT_THAT(refusal("{\"ids\": [1, 2"), HasSubstr("is not JSON: broken at byte"));
  EXPECT_THAT(refusal("[1, 2]"), HasSubstr("not an object with either \"ids\" or \"text\""));
  EXPECT_THAT(refusal("{\"ids\": 3}"), HasSubstr("\"ids\" must be a list"));
  EXPECT_THAT(refusal("{\"ids\": [1, \"a\"]}"), HasSubstr("holds \"a\", not a whole number"));
  EXPECT_THAT(refusal("{\"ids\": [1, 2.5]}"), HasSubstr("holds 2.5, not a whole number"));
  EXPECT_THAT(
      refusal("{\"ids\": [1, 50]}"),
      HasSubstr("token id 50 at position 1 is out of range: the model's vocabulary is 0 .. 49"));
  EXPECT_THAT(refusal("{\"ids\": [-1, 2]}"), HasSubstr("token id -1"));
  EXPECT_THAT(refusal("{\"ids\": [99999999999999999999]}"), HasSubstr("not a whole number"));
  EXPECT_THAT(refusal("{\"ids\": [18446744073709551615]}"), HasSubstr("not a whole number"));
  EXPECT_THAT(refusal("{\"ids\": [1, 2], \"document_lengths\": [1]}"),
              HasSubstr("add up to the 2 ids"));
  EXPECT_THAT(refusal("{\"ids\": [1, 2], \"document_lengths\": [3, -1]}"),
              HasSubstr("must be positive"));
}

TEST_F(ScoreFile, ABrokenLineIsNamedByItsPlaceInTheFileAlone) {
  const std::string message = refusal("{\"ids\": [1, 2");
  EXPECT_THAT(message, HasSubstr("broken at byte 14"));
  EXPECT_THAT(message, ::testing::Not(HasSubstr("line 1")));
}

TEST_F(ScoreFile, TextScoresAsItsIdsWithBosInFront) {
  add_tokenizer();
  ModelConfig config = tiny_config();
  config.vocab_size = 300;
  LanguageModel model = tiny_model(config);
  const std::string text = "the lorikeet sees";
  const auto ids = encode_document(Tokenizer(testing::tiny_tokenizer()), text);
  const std::string input = write("{\"text\": \"" + text + "\"}\n" +
                                  nlohmann::json{{"ids", ids}}.dump() + "\n{\"text\": \"\"}\n");
  EXPECT_EQ(score(model, input), 3);
  std::istringstream lines(read_text_file(output(), ExitCode::kData));
  std::vector<nlohmann::json> found;
  for (std::string line; std::getline(lines, line);) found.push_back(nlohmann::json::parse(line));
  ASSERT_EQ(found.size(), 3u);
  EXPECT_EQ(found[0]["ids"], ids);
  EXPECT_EQ(found[0]["logprobs"], found[1]["logprobs"]);
  EXPECT_EQ(found[0]["logprobs"].size(), ids.size() - 1);
  EXPECT_FALSE(found[1].contains("ids"));
  EXPECT_EQ(found[2]["ids"], std::vector<int64_t>{ids[0]});
  EXPECT_TRUE(found[2]["logprobs"].empty());
}

TEST_F(ScoreFile, TextWithoutATokenizerIsRefusedWithAHint) {
  LanguageModel model = tiny_model();
  const std::string input = write("{\"text\": \"the sea\"}\n");
  const std::string message =
      testing::error_of(ExitCode::kCheckpoint, [&] { score(model, input); });
  EXPECT_THAT(message, HasSubstr("has no tokenizer.model"));
  EXPECT_THAT(message, HasSubstr("hint: copy the SentencePiece model"));
  EXPECT_FALSE(std::filesystem::exists(output()));
}

TEST_F(ScoreFile, TextThatTheModelCannotReadIsRefused) {
  add_tokenizer();
  EXPECT_THAT(refusal("{\"text\": 3}"), HasSubstr("\"text\" must be a string"));
  EXPECT_THAT(refusal("{\"text\": \"a\", \"ids\": [1]}"), HasSubstr("either"));
  EXPECT_THAT(refusal("{\"text\": \"the sea\"}"), HasSubstr("is out of range"));
}

TEST_F(ScoreFile, ASavedAndLoadedModelScoresTheSameBits) {
  LanguageModel model = tiny_model();
  const std::string directory = folder_.path() + "/model";
  write_model_directory(directory, model->config(), named_weights(*model));
  LanguageModel loaded = load_language_model(directory);
  const ScoreRequest request{{3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5}, {}};
  EXPECT_EQ(score_tokens(loaded, request), score_tokens(model, request));
}

TEST_F(ScoreFile, AModelOfAnotherShapeIsRefusedWithBothShapes) {
  LanguageModel model = tiny_model();
  const std::string directory = folder_.path() + "/model";
  NamedTensors weights = named_weights(*model);
  for (auto& [name, tensor] : weights) {
    if (name == "model.layers.1.mlp.router.weight") tensor = tensor.narrow(0, 0, 2);
  }
  write_model_directory(directory, model->config(), weights);
  try {
    load_language_model(directory);
    FAIL() << "loaded";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kCheckpoint);
    EXPECT_THAT(error.what(), HasSubstr("model.layers.1.mlp.router.weight"));
    EXPECT_THAT(error.what(), HasSubstr("[2, 16]"));
    EXPECT_THAT(error.what(), HasSubstr("[3, 16]"));
  }
}

}  // namespace
}  // namespace lorikeet
