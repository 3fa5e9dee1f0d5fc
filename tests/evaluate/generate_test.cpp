// The computation behind each step is tested in tests/model/decoding_test.cpp.
#include "lorikeet/evaluate/generate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <fstream>

#include "lorikeet/evaluate/model_tokenizer.h"
#include "lorikeet/model/initialise.h"
#include "tests/core/temporary_folder.h"
#include "tests/evaluate/test_tokenizer.h"

namespace lorikeet {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::Lt;
using ::testing::Not;
using enum GenerationRouting;

ModelConfig tiny_config() {
  ModelConfig config;
  config.hidden_size = 16;
  config.num_layers = 2;
  config.num_heads = 2;
  config.ffn_size = 24;
  config.vocab_size = 50;
  config.context_length = 32;
  config.init_std = 0.3;
  config.feed_forward.kind = FeedForwardKind::kMerged;
  config.feed_forward.num_experts = 3;
  config.feed_forward.segment_length = 4;
  config.feed_forward.first_segment = FirstSegment::kUniform;
  config.feed_forward.router_init_std = 1.0;
  return config;
}

LanguageModel tiny_model(const ModelConfig& config = tiny_config()) {
  LanguageModel model(config);
  initialise_parameters(*model, 1);
  model->eval();
  return model;
}

const std::vector<int64_t> kPromptIds = {1, 7, 3, 49, 0, 12};

TEST(Generate, GreedyTakesTheArgMaxOfAWholeForwardAtEachStep) {
  LanguageModel model = tiny_model();
  const auto found = generate(
      model, kPromptIds, {.max_tokens = 20, .routing = kSegment, .sampling = {.temperature = 0}});
  ASSERT_EQ(found.ids.size(), 20u);
  const torch::NoGradGuard no_grad;
  std::vector<int64_t> ids = kPromptIds;
  for (const int64_t id : found.ids) {
    const auto output = model->forward(torch::tensor(ids).unsqueeze(0));
    EXPECT_EQ(id, model->logits(output.hidden_BLD)[0][-1].argmax().item<int64_t>());
    ids.push_back(id);
  }
}

TEST(Generate, RoutingKindsDiffer) {
  LanguageModel model = tiny_model();
  GenerateOptions options{.max_tokens = 20, .sampling = {.temperature = 0}};
  const auto by_prompt = generate(model, kPromptIds, options).ids;
  options.routing = kSegment;
  EXPECT_NE(generate(model, kPromptIds, options).ids, by_prompt);
}

TEST(Generate, TheSeedDecidesTheText) {
  LanguageModel model = tiny_model();
  const auto written = [&](uint64_t seed) {
    return generate(model, kPromptIds, {.max_tokens = 15, .sampling = {.seed = seed}}).ids;
  };
  EXPECT_EQ(written(5), written(5));
  EXPECT_NE(written(5), written(6));
}

TEST(Generate, StopsBeforeEosAndFeedsNothingBackThatIsNotNeeded) {
  LanguageModel model = tiny_model();
  GenerateOptions options{.max_tokens = 12, .sampling = {.temperature = 2.0, .seed = 3}};
  const auto whole = generate(model, kPromptIds, options);
  ASSERT_EQ(whole.ids.size(), 12u);
  EXPECT_EQ(whole.steps, 11);  // the last token is never an input
  options.eos = whole.ids[5];
  const auto end = std::find(whole.ids.begin(), whole.ids.end(), options.eos);
  const auto cut = generate(model, kPromptIds, options);
  EXPECT_EQ(cut.ids, std::vector<int64_t>(whole.ids.begin(), end));
}

TEST(Generate, DrawsNoIdBeyondTheTokenizers) {
  LanguageModel model = tiny_model();
  const GenerateOptions options{
      .max_tokens = 30, .sampling = {.temperature = 50}, .vocab_size = 10};
  EXPECT_THAT(generate(model, kPromptIds, options).ids, Each(Lt(10)));
}

TEST(Generate, BeyondTheContextWorksWithOneWarning) {
  LanguageModel model = tiny_model();
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(generate(model, kPromptIds, {.max_tokens = 27}).ids.size(), 27u);  // 32 are inputs
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(generate(model, kPromptIds, {.max_tokens = 300}).ids.size(), 300u);
  const std::string text = ::testing::internal::GetCapturedStderr();
  EXPECT_THAT(text, HasSubstr("beyond the 32 positions"));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
}

TEST(Generate, RefusesWhatCannotBeDone) {
  LanguageModel model = tiny_model();
  const auto refusal = [&](ExitCode code, const std::vector<int64_t>& prompt,
                           const GenerateOptions& options) {
    return testing::error_of(code, [&] { generate(model, prompt, options); });
  };
  EXPECT_THAT(refusal(ExitCode::kUsage, {}, {}), HasSubstr("the prompt is empty"));
  EXPECT_THAT(refusal(ExitCode::kUsage, {1}, {.max_tokens = 0}),
              HasSubstr("max-tokens: 0 is below 1"));
  EXPECT_THAT(refusal(ExitCode::kUsage, {1}, {.sampling = {.top_p = 0}}), HasSubstr("top-p: 0"));
  EXPECT_THAT(refusal(ExitCode::kData, {1, 50}, {}),
              HasSubstr("token id 50 at position 1 is out of range"));
  EXPECT_THAT(refusal(ExitCode::kData, {-1}, {}), HasSubstr("token id -1 at position 0"));
  ModelConfig config = tiny_config();
  config.feed_forward.routing = Routing::kSequence;
  model = tiny_model(config);
  EXPECT_THAT(refusal(ExitCode::kUsage, {1}, {.routing = kSegment}),
              HasSubstr("routes whole sequences"));
  EXPECT_EQ(generate(model, {1}, {.max_tokens = 3}).ids.size(), 3u);
}

TEST(Generate, RefusesWeightsThatAreNotNumbers) {
  LanguageModel model = tiny_model();
  const torch::NoGradGuard no_grad;
  model->named_parameters()["model.layers.1.mlp.experts.up_proj.weight"][2][3][4] = NAN;
  EXPECT_THAT(testing::error_of(ExitCode::kCheckpoint, [&] { generate(model, kPromptIds, {}); }),
              HasSubstr("logits that are not finite after 6 tokens"));
}

TEST(ContinuationText, JoinsThePromptToTheWholeText) {
  const Tokenizer tokenizer(testing::tiny_tokenizer());
  const std::string text = "the parrot sees\nthe \u00e9l\u00e9phant and  sings";
  const auto ids = encode_document(tokenizer, text);
  for (size_t cut = 1; cut < ids.size(); ++cut) {
    const std::vector<int64_t> prompt(ids.begin(), ids.begin() + cut),
        rest(ids.begin() + cut, ids.end());
    const std::string before = continuation_text(tokenizer, {}, prompt);
    if (!text.starts_with(before)) continue;  // within a character
    EXPECT_EQ(before + continuation_text(tokenizer, prompt, rest), text) << cut;
  }
}

TEST(EncodeDocument, PutsBosInFront) {
  const Tokenizer tokenizer(testing::tiny_tokenizer());
  EXPECT_THAT(encode_document(tokenizer, ""), ::testing::ElementsAre(tokenizer.bos()));
  const auto ids = encode_document(tokenizer, "sea");
  EXPECT_EQ(ids.front(), tokenizer.bos());
  EXPECT_THAT(std::vector<int64_t>(ids.begin() + 1, ids.end()),
              ::testing::ElementsAreArray(tokenizer.encode("sea")));
}

TEST(LoadModelTokenizer, RefusesADirectoryWithoutAGoodOne) {
  const testing::TemporaryFolder folder;
  const auto refusal = [&] {
    return testing::error_of(ExitCode::kCheckpoint, [&] { load_model_tokenizer(folder.path()); });
  };
  EXPECT_THAT(refusal(), HasSubstr("has no tokenizer.model"));
  std::ofstream(folder / "tokenizer.model") << "not a model";
  EXPECT_THAT(refusal(), HasSubstr("is not a SentencePiece model"));
}

}  // namespace
}  // namespace lorikeet
