// Token by token with what was kept, against whole forwards. All in double: the two differ by
// rounding alone.
#include "lorikeet/model/decoding.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "test_models.h"

namespace lorikeet {
namespace {

using namespace testing_models;
using torch::Tensor;
using enum GenerationRouting;

constexpr int64_t kLength = 19;  // segments of 4: four whole ones and a part

LanguageModel double_model(const ModelConfig& config, int64_t seed = 1) {
  LanguageModel model = make_model(config, torch::kDouble, seed);
  model->eval();
  const torch::NoGradGuard no_grad;
  for (auto& p : model->named_parameters()) {
    if (p.key().ends_with(".prior")) p.value().normal_();
  }
  return model;
}

/// Logits [L - prompt + 1, V] of positions prompt - 1 .. L - 1, where the ids after the prompt are
/// fed one at a time.
Tensor fed_logits(LanguageModel& model, const Tensor& ids_1L, int64_t prompt,
                  GenerationRouting routing) {
  const torch::NoGradGuard no_grad;
  SequenceState state = model->start_sequence(routing);
  std::vector<Tensor> logits;
  const auto feed = [&](int64_t begin, int64_t count) {
    const Tensor hidden_BLD = model->extend(ids_1L.narrow(1, begin, count), state);
    logits.push_back(model->logits(hidden_BLD)[0][count - 1]);
  };
  feed(0, prompt);
  for (int64_t i = prompt; i < ids_1L.size(1); ++i) feed(i, 1);
  EXPECT_EQ(state.length, ids_1L.size(1));
  return torch::stack(logits);
}

Tensor full_logits(LanguageModel& model, const Tensor& ids_1L) {
  const torch::NoGradGuard no_grad;
  return model->logits(model->forward(ids_1L).hidden_BLD)[0];
}

void expect_equal(const Tensor& a, const Tensor& b, const std::string& what) {
  ASSERT_EQ(a.sizes(), b.sizes()) << what;
  EXPECT_LT((a - b).abs().max().item<double>(), 1e-9) << what;
}

void expect_every_prompt_decodes_like_forward(const ModelConfig& config,
                                              GenerationRouting routing) {
  LanguageModel model = double_model(config);
  const Tensor ids = random_ids(config, 1, kLength), expected = full_logits(model, ids);
  for (int64_t prompt = 1; prompt <= kLength; ++prompt) {
    expect_equal(fed_logits(model, ids, prompt, routing), expected.slice(0, prompt - 1),
                 fmt::format("prompt of {}", prompt));
  }
}

TEST(Decoding, DenseEqualsForwardAtEveryPosition) {
  for (const auto routing : {kPrompt, kSegment}) {
    expect_every_prompt_decodes_like_forward(tiny_config(FeedForwardKind::kDense), routing);
  }
}

TEST(Decoding, AttentionVariantsEqualForwardAtEveryPosition) {
  ModelConfig config = tiny_config(FeedForwardKind::kDense);
  config.num_kv_heads = 1;
  config.qk_norm = QkNorm::kHead;
  config.tie_embeddings = true;
  expect_every_prompt_decodes_like_forward(config, kPrompt);
  config.num_kv_heads = 2;
  config.qk_norm = QkNorm::kFull;
  expect_every_prompt_decodes_like_forward(config, kPrompt);
}

TEST(Decoding, SegmentRoutingEqualsForwardAtEveryPositionWhereItIsCausal) {
  for (const auto routing : {Routing::kCausalSegment, Routing::kPrefix}) {
    for (const auto first : {FirstSegment::kUniform, FirstSegment::kLearned}) {
      ModelConfig config = tiny_config();
      config.feed_forward.routing = routing;
      config.feed_forward.first_segment = first;
      expect_every_prompt_decodes_like_forward(config, kSegment);
    }
  }
}

TEST(Decoding, SegmentRoutingWithAFirstSegmentOfItsOwnEqualsForwardOnceThePromptHoldsIt) {
  for (const auto routing : {Routing::kCausalSegment, Routing::kPrefix}) {
    ModelConfig config = tiny_config();
    config.feed_forward.routing = routing;
    LanguageModel model = double_model(config);
    const Tensor ids = random_ids(config, 1, kLength), expected = full_logits(model, ids);
    for (const int64_t prompt : {4, 5, 8, 11}) {
      expect_equal(fed_logits(model, ids, prompt, kSegment), expected.slice(0, prompt - 1),
                   fmt::format("prompt of {}", prompt));
    }
    // A shorter prompt decides alone: equal to its own forward, and then not to the longer one's.
    const Tensor fed = fed_logits(model, ids, 2, kSegment);
    expect_equal(fed[0], full_logits(model, ids.narrow(1, 0, 2))[1], "prompt of 2");
    EXPECT_GT((fed[1] - expected[2]).abs().max().item<double>(), 1e-6);
  }
}

/// The dense model that a merged one becomes where each layer is merged with weights [1, E].
LanguageModel dense_from(LanguageModel& merged, const std::vector<RoutingRecord>& routing) {
  ModelConfig config = merged->config();
  config.feed_forward = {};
  LanguageModel dense = make_model(config, torch::kDouble);
  const torch::NoGradGuard no_grad;
  auto target = dense->named_parameters();
  for (const auto& p : merged->named_parameters()) {
    std::string name = p.key();
    if (name.find(".router.") != std::string::npos) continue;
    Tensor value = p.value();
    if (const auto at = name.find(".experts."); at != std::string::npos) {
      name.replace(at, std::string_view(".experts.").size(), ".");
      const auto layer = std::stoul(name.substr(std::string_view("model.layers.").size()));
      value = (routing[layer].weights_GE[0].view({-1, 1, 1}) * value).sum(0);
    }
    target[name].copy_(value);
  }
  return dense;
}

TEST(Decoding, PromptRoutingEqualsTheDenseModelOfThePromptsMergedWeights) {
  for (const auto routing : {Routing::kCausalSegment, Routing::kPrefix, Routing::kSequence}) {
    ModelConfig config = tiny_config();
    config.feed_forward.routing = routing;
    LanguageModel model = double_model(config);
    // `sequence` routing of the prompt alone says how each layer is merged.
    config.feed_forward.routing = Routing::kSequence;
    LanguageModel sequence = double_model(config);
    const Tensor ids = random_ids(config, 1, kLength);
    for (const int64_t prompt : {1, 4, 7, 18}) {
      LanguageModel dense =
          dense_from(sequence, sequence->forward(ids.narrow(1, 0, prompt)).routing);
      expect_equal(fed_logits(model, ids, prompt, kPrompt),
                   full_logits(dense, ids).slice(0, prompt - 1),
                   fmt::format("prompt of {}", prompt));
    }
  }
}

TEST(Decoding, PromptRoutingNeedsNoExpertsAfterThePrompt) {
  const ModelConfig config = tiny_config();
  LanguageModel model = double_model(config);
  const Tensor ids = random_ids(config, 1, kLength);
  const Tensor expected = fed_logits(model, ids, 6, kPrompt);
  const torch::NoGradGuard no_grad;
  SequenceState state = model->start_sequence(kPrompt);
  model->extend(ids.narrow(1, 0, 6), state);
  for (auto& p : model->named_parameters()) {
    if (p.key().find(".mlp.") != std::string::npos) p.value().fill_(NAN);
  }
  for (int64_t i = 6; i < kLength; ++i) {
    const Tensor logits = model->logits(model->extend(ids.narrow(1, i, 1), state))[0][0];
    EXPECT_TRUE(torch::equal(logits, expected[i - 5])) << i;
  }
}

std::map<std::string, int> called_operators;

/// Which operators the token behind a prompt calls, and how often. Left out: allocation, of which a
/// layout of segments has one more, and `to`, which copies nothing (what does is `_to_copy`).
std::map<std::string, int> operators_of_a_step(LanguageModel& model, const Tensor& ids_1L,
                                               GenerationRouting routing) {
  const torch::NoGradGuard no_grad;
  SequenceState state = model->start_sequence(routing);
  const int64_t prompt = ids_1L.size(1) - 1;
  model->extend(ids_1L.narrow(1, 0, prompt), state);
  called_operators.clear();
  const auto handle = at::addThreadLocalCallback(
      at::RecordFunctionCallback([](const at::RecordFunction& call)
                                     -> std::unique_ptr<at::ObserverContext> {
        ++called_operators[call.name()];
        return nullptr;
      }).scopes({at::RecordScope::FUNCTION}));
  model->extend(ids_1L.narrow(1, prompt, 1), state);
  at::removeCallback(handle);
  called_operators.erase("aten::empty");
  called_operators.erase("aten::to");
  return called_operators;
}

/// "aten::mm 14 16, ...": the operators that are called another number of times.
std::string difference(std::map<std::string, int> a, const std::map<std::string, int>& b) {
  std::string text;
  for (const auto& [name, count] : b) a.try_emplace(name, 0);
  for (const auto& [name, count] : a) {
    const int other = b.contains(name) ? b.at(name) : 0;
    if (count != other) text += fmt::format("{} {} {}, ", name, count, other);
  }
  return text;
}

TEST(Decoding, AStepAfterThePromptCallsTheOperatorsOfADenseModel) {
  for (const auto dtype : {torch::kFloat32, torch::kDouble}) {
    const ModelConfig config = tiny_config();
    LanguageModel merged = make_model(config, dtype);
    LanguageModel dense = make_model(tiny_config(FeedForwardKind::kDense), dtype);
    merged->eval();
    dense->eval();
    const Tensor ids = random_ids(config, 1, 9);  // the last one opens a segment
    const auto expected = operators_of_a_step(dense, ids, kPrompt);
    EXPECT_GE(expected.at("aten::mm"), 14) << "two layers, and the head";
    EXPECT_EQ(difference(operators_of_a_step(merged, ids, kPrompt), expected), "");
    EXPECT_THAT(difference(operators_of_a_step(merged, ids, kSegment), expected),
                ::testing::HasSubstr("aten::mm "))
        << "it merges anew";
  }
}

TEST(Decoding, SequencesOfOneModelDoNotMix) {
  const ModelConfig config = tiny_config();
  LanguageModel model = double_model(config);
  const Tensor a = random_ids(config, 1, 12, 1), b = random_ids(config, 1, 12, 2);
  const Tensor alone = fed_logits(model, a, 5, kSegment);
  const torch::NoGradGuard no_grad;
  SequenceState first = model->start_sequence(kSegment), second = model->start_sequence(kSegment);
  model->extend(a.narrow(1, 0, 5), first);
  model->extend(b.narrow(1, 0, 3), second);
  for (int64_t i = 5; i < 12; ++i) {
    const Tensor logits = model->logits(model->extend(a.narrow(1, i, 1), first))[0][0];
    model->extend(b.narrow(1, i, 1), second);
    EXPECT_TRUE(torch::equal(logits, alone[i - 4])) << i;
  }
}

TEST(Decoding, RefusesSegmentsWhereThereAreNoneAndSeveralTokensAfterThePrompt) {
  ModelConfig config = tiny_config();
  LanguageModel model = double_model(config);
  SequenceState state = model->start_sequence(kPrompt);
  const Tensor ids = random_ids(config, 1, 4);
  model->extend(ids, state);
  EXPECT_THROW(model->extend(ids, state), c10::Error);
  config.feed_forward.routing = Routing::kSequence;
  LanguageModel sequence = double_model(config);
  EXPECT_THROW(sequence->start_sequence(kSegment), c10::Error);
}

TEST(KeyValueCache, DoublesWhenFullAndKeepsWhatItHolds) {
  torch::manual_seed(1);
  KeyValueCache cache;
  std::vector<Tensor> keys, values;
  std::vector<int64_t> capacities;
  for (const int64_t count : {200, 1, 55, 1, 1, 255, 700}) {
    keys.push_back(torch::randn({1, 2, count, 3}));
    values.push_back(torch::randn({1, 2, count, 3}));
    cache.append(keys.back(), values.back());
    capacities.push_back(cache.capacity());
    EXPECT_TRUE(torch::equal(cache.keys(), torch::cat(keys, 2)));
    EXPECT_TRUE(torch::equal(cache.values(), torch::cat(values, 2)));
  }
  EXPECT_THAT(capacities, ::testing::ElementsAre(256, 256, 256, 512, 512, 1024, 2048));
}

}  // namespace
}  // namespace lorikeet
