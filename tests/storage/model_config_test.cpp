#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "lorikeet/storage/model_directory.h"
#include "tests/core/temporary_folder.h"
#include "tests/storage/raw_file.h"

namespace lorikeet {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using testing::TemporaryFolder;

ModelConfig read_text(const std::string& text) {
  const TemporaryFolder folder;
  testing::write_raw(folder / "config.json", text);
  return read_model_config(folder.path());
}

/// What transformers writes for a small LLaMA, without the optional keys.
json minimal() {
  return {{"model_type", "llama"},         {"hidden_size", 64}, {"num_hidden_layers", 2},
          {"num_attention_heads", 4},      {"vocab_size", 100}, {"intermediate_size", 96},
          {"max_position_embeddings", 128}};
}

json minimal_merged() {
  json config = minimal();
  config.update({{"model_type", "lorikeet"},
                 {"num_experts", 4},
                 {"segment_length", 32},
                 {"routing", "prefix"},
                 {"first_segment", "uniform"}});
  return config;
}

/// The error of reading `config` with these keys changed.
std::string error_with(json config, const json& changes) {
  config.update(changes);
  const std::string error =
      testing::error_of(ExitCode::kCheckpoint, [&] { read_text(config.dump()); });
  EXPECT_THAT(error, ::testing::Not(::testing::EndsWith("hint: "))) << "no hint";
  return error;
}

/// Two configurations that compute the same function are stored as the same text.
void expect_round_trip(const ModelConfig& config) {
  const std::string text = model_config_json(config);
  EXPECT_EQ(model_config_json(read_text(text)), text);
}

TEST(ModelConfigJson, ADenseModelIsALlamaOfHuggingFace) {
  ModelConfig config;
  config.num_kv_heads = 2;
  const json stored = json::parse(model_config_json(config, {at::kBFloat16, 1, 2}));
  EXPECT_EQ(stored["model_type"], "llama");
  EXPECT_EQ(stored["architectures"], json({"LlamaForCausalLM"}));
  EXPECT_EQ(stored["hidden_act"], "silu");
  EXPECT_EQ(stored["num_key_value_heads"], 2);
  EXPECT_EQ(stored["head_dim"], 64);
  EXPECT_EQ(stored["rms_norm_eps"], 1e-5);
  EXPECT_EQ(stored["rope_theta"], 10000.0);
  EXPECT_EQ(stored["rope_parameters"], json({{"rope_theta", 10000.0}, {"rope_type", "default"}}));
  EXPECT_EQ(stored["torch_dtype"], "bfloat16");
  EXPECT_EQ(stored["dtype"], "bfloat16");
  EXPECT_EQ(stored["eos_token_id"], 2);
  EXPECT_FALSE(stored.contains("num_experts"));
}

TEST(ModelConfigJson, WhatLlamaDoesNotComputeIsNotCalledLlama) {
  ModelConfig normed, scoped, merged;
  normed.qk_norm = QkNorm::kHead;
  scoped.attention_scope = Scope::kDocument;
  merged.feed_forward.kind = FeedForwardKind::kMerged;
  for (const ModelConfig& config : {normed, scoped, merged}) {
    EXPECT_EQ(json::parse(model_config_json(config))["model_type"], "lorikeet");
  }
}

TEST(ModelConfigJson, EveryFieldThatMattersComesBack) {
  ModelConfig config;
  config.hidden_size = 96;
  config.num_layers = 3;
  config.num_heads = 6;
  config.num_kv_heads = 2;
  config.head_dim = 24;
  config.ffn_size = 200;
  config.vocab_size = 321;
  config.context_length = 512;
  config.rope_theta = 500000.0;
  config.norm_eps = 1e-6;
  config.tie_embeddings = true;
  expect_round_trip(config);
  config.qk_norm = QkNorm::kFull;
  config.attention_scope = Scope::kDocument;
  expect_round_trip(config);
  config.feed_forward.kind = FeedForwardKind::kMerged;
  config.feed_forward.num_experts = 5;
  config.feed_forward.segment_length = 64;
  config.feed_forward.first_segment = FirstSegment::kLearned;
  config.feed_forward.segment_scope = Scope::kDocument;
  expect_round_trip(config);
  config.feed_forward.routing = Routing::kSequence;
  config.feed_forward.smear = {true, true, true, 0.1};
  expect_round_trip(config);

  const ModelConfig read = read_text(model_config_json(config));
  EXPECT_EQ(read.hidden_size, 96);
  EXPECT_EQ(read.kv_heads(), 2);
  EXPECT_EQ(read.head_size(), 24);
  EXPECT_EQ(read.rope_theta, 500000.0);
  EXPECT_TRUE(read.tie_embeddings);
  EXPECT_EQ(read.qk_norm, QkNorm::kFull);
  EXPECT_EQ(read.attention_scope, Scope::kDocument);
  EXPECT_EQ(read.feed_forward.num_experts, 5);
  EXPECT_EQ(read.feed_forward.routing, Routing::kSequence);
  EXPECT_EQ(read.feed_forward.first_segment, FirstSegment::kLearned);
  EXPECT_EQ(read.feed_forward.segment_scope, Scope::kDocument);
  EXPECT_TRUE(read.feed_forward.smear.router_norm);
  EXPECT_EQ(read.feed_forward.smear.expert_dropout, 0.1);
}

TEST(ModelConfigReader, AbsentKeysTakeTheDefaultsOfHuggingFace) {
  json config = minimal();
  config["num_key_value_heads"] = nullptr;
  const ModelConfig read = read_text(config.dump());
  EXPECT_EQ(read.kv_heads(), 4);
  EXPECT_EQ(read.head_size(), 16);
  EXPECT_EQ(read.norm_eps, 1e-6);
  EXPECT_EQ(read.rope_theta, 10000.0);
  EXPECT_FALSE(read.tie_embeddings);
  EXPECT_FALSE(read.is_merged());
}

TEST(ModelConfigReader, ReadsRopeAsTransformers5WritesIt) {
  json config = minimal();
  config["rope_parameters"] = {{"rope_theta", 500000.0}, {"rope_type", "default"}};
  config["dtype"] = "bfloat16";
  EXPECT_EQ(read_text(config.dump()).rope_theta, 500000.0);
  config["rope_theta"] = 500000.0;
  config["rope_scaling"] = nullptr;
  EXPECT_EQ(read_text(config.dump()).rope_theta, 500000.0);
  EXPECT_THAT(error_with(config, {{"rope_theta", 10000.0}}),
              HasSubstr("10000, but rope_parameters say 500000"));
}

TEST(ModelConfigReader, RefusesWhatWouldComputeSomethingElse) {
  const auto error = [](const json& changes) { return error_with(minimal(), changes); };
  EXPECT_THAT(error({{"model_type", "mistral"}}),
              HasSubstr("'mistral' is not supported, only llama"));
  EXPECT_THAT(error({{"rope_scaling", {{"rope_type", "llama3"}, {"factor", 8.0}}}}),
              HasSubstr("RoPE of type 'llama3' is not supported"));
  EXPECT_THAT(error({{"rope_scaling", {{"type", "linear"}, {"factor", 2.0}}}}),
              HasSubstr("'linear'"));
  EXPECT_THAT(error({{"rope_parameters", {{"rope_type", "yarn"}}}}), HasSubstr("'yarn'"));
  EXPECT_THAT(error({{"hidden_act", "gelu"}}), HasSubstr("hidden_act: 'gelu' is not supported"));
  EXPECT_THAT(error({{"attention_bias", true}}), HasSubstr("attention_bias"));
  EXPECT_THAT(error({{"mlp_bias", true}}), HasSubstr("mlp_bias"));
  EXPECT_THAT(error({{"sliding_window", 4096}}), HasSubstr("sliding_window: 4096"));
  EXPECT_THAT(error({{"layer_types", {"full_attention", "sliding_attention"}}}),
              HasSubstr("layer_types"));
  EXPECT_THAT(error({{"partial_rotary_factor", 0.5}}), HasSubstr("partial_rotary_factor"));
  EXPECT_THAT(error({{"quantization_config", {{"bits", 4}}}}), HasSubstr("quantised"));
}

TEST(ModelConfigReader, NamesAMissingKey) {
  const json complete = minimal();
  for (const auto& item : complete.items()) {
    json config = minimal();
    config.erase(item.key());
    EXPECT_THAT(error_with(config, json::object()), HasSubstr(item.key() + ": is missing"));
  }
  for (const char* key : {"num_experts", "segment_length", "routing", "first_segment"}) {
    json config = minimal_merged();
    config.erase(key);
    EXPECT_THAT(error_with(config, json::object()), HasSubstr(std::string(key) + ": is missing"));
  }
}

TEST(ModelConfigReader, RefusesWrongTypesAndAbsurdValues) {
  const auto error = [](const json& changes) { return error_with(minimal(), changes); };
  EXPECT_THAT(error({{"hidden_size", "64"}}),
              HasSubstr("hidden_size: \"64\" is not a whole number"));
  EXPECT_THAT(error({{"hidden_size", -64}}), HasSubstr("-64"));
  EXPECT_THAT(error({{"hidden_size", 64.5}}), HasSubstr("64.5"));
  EXPECT_THAT(error({{"vocab_size", 0}}), HasSubstr("from 1 to"));
  EXPECT_THAT(error({{"vocab_size", uint64_t{1} << 63}}), HasSubstr("from 1 to"));
  EXPECT_THAT(error({{"tie_word_embeddings", 1}}), HasSubstr("1 is not true or false"));
  EXPECT_THAT(error({{"rms_norm_eps", "x"}}), HasSubstr("\"x\" is not a number"));
  EXPECT_THAT(error({{"hidden_act", 3}}), HasSubstr("3 is not a string"));
  EXPECT_THAT(error({{"rope_parameters", 3}}), HasSubstr("3 is not an object"));
  EXPECT_THAT(error_with(minimal_merged(), {{"routing", "token"}}),
              HasSubstr("routing: 'token' is not one of causal_segment, prefix, sequence"));
}

TEST(ModelConfigReader, AppliesTheRulesBetweenFields) {
  const auto error = [](const json& changes) { return error_with(minimal(), changes); };
  EXPECT_THAT(error({{"num_attention_heads", 5}}), HasSubstr("config.json"));
  EXPECT_THAT(error({{"num_key_value_heads", 3}}), HasSubstr("num_kv_heads"));
  EXPECT_THAT(error({{"head_dim", 7}}), HasSubstr("head_dim"));
  EXPECT_THAT(error({{"rms_norm_eps", -1.0}}), HasSubstr("norm_eps"));
  EXPECT_THAT(error({{"rope_theta", -1.0}}), HasSubstr("rope_theta"));
  EXPECT_THAT(error_with(minimal_merged(), {{"segment_length", 48}}), HasSubstr("segment_length"));
  EXPECT_THAT(error_with(minimal_merged(), {{"smear", {{"expert_dropout", 2.0}}}}),
              HasSubstr("expert_dropout"));
}

TEST(ModelConfigReader, NamesAFileThatIsMissingOrNoJson) {
  const TemporaryFolder folder;
  EXPECT_THAT(testing::error_of(ExitCode::kCheckpoint, [&] { read_model_config(folder.path()); }),
              AllOf(HasSubstr("config.json"), HasSubstr("No such file")));
  EXPECT_THAT(testing::error_of(ExitCode::kCheckpoint, [] { read_text("{"); }),
              HasSubstr("not valid JSON"));
  EXPECT_THAT(testing::error_of(ExitCode::kCheckpoint, [] { read_text("[]"); }),
              HasSubstr("not a JSON object"));
}

}  // namespace
}  // namespace lorikeet
