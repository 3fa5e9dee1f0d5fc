#include "lorikeet/storage/model_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/core/temporary_folder.h"
#include "tests/storage/raw_file.h"

namespace lorikeet {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::TemporaryFolder;

constexpr const char* kIndex = "model.safetensors.index.json";

/// Four tensors of 40 bytes.
NamedTensors four() {
  NamedTensors tensors;
  for (const char* name : {"d", "b", "a", "c"}) {
    tensors.emplace_back(name, at::full({2, 5}, static_cast<double>(name[0])));
  }
  return tensors;
}

std::string error_of(const std::function<void()>& action) {
  const std::string error = testing::error_of(ExitCode::kCheckpoint, action);
  EXPECT_THAT(error, ::testing::Not(::testing::EndsWith("hint: "))) << "no hint";
  return error;
}

void expect_four(const ModelReader& reader) {
  EXPECT_THAT(reader.names(), ElementsAre("a", "b", "c", "d"));
  for (const auto& [name, tensor] : four()) {
    EXPECT_TRUE(at::equal(reader.load(name), tensor)) << name;
    EXPECT_TRUE(at::equal(reader.view(name), tensor)) << name;
  }
}

TEST(ModelDirectory, ComesBackFromOneFile) {
  const TemporaryFolder folder;
  testing::write_raw(folder / "llama.model", "tokens");
  ModelDirectoryOptions options;
  options.tokenizer_path = folder / "llama.model";
  write_model_directory(folder / "model", ModelConfig{}, four(), options);
  EXPECT_THAT(folder.list(folder / "model"),
              ElementsAre("config.json", "model.safetensors", "tokenizer.model"));
  expect_four(ModelReader(folder / "model"));
  EXPECT_EQ(read_model_config(folder / "model").hidden_size, ModelConfig{}.hidden_size);
  EXPECT_EQ(read_text_file(folder / "model/tokenizer.model", ExitCode::kCheckpoint), "tokens");
  EXPECT_EQ(SafetensorsFile(folder / "model/model.safetensors").metadata().at("format"), "pt");
}

TEST(ModelDirectory, IsSplitIntoShardsWithAnIndex) {
  const TemporaryFolder folder;
  ModelDirectoryOptions options;
  options.max_shard_bytes = 100;
  write_model_directory(folder / "model", ModelConfig{}, four(), options);
  EXPECT_THAT(folder.list(folder / "model"),
              ElementsAre("config.json", "model-00001-of-00002.safetensors",
                          "model-00002-of-00002.safetensors", kIndex));
  expect_four(ModelReader(folder / "model"));
  const auto path = (folder / "model/") + kIndex;
  const json index = json::parse(read_text_file(path, ExitCode::kCheckpoint));
  EXPECT_EQ(index["metadata"]["total_size"], 160);
  EXPECT_EQ(index["weight_map"]["b"], "model-00001-of-00002.safetensors");
}

TEST(ModelDirectory, ATensorLargerThanAShardGetsItsOwn) {
  const TemporaryFolder folder;
  ModelDirectoryOptions options;
  options.max_shard_bytes = 1;
  write_model_directory(folder / "model", ModelConfig{}, four(), options);
  EXPECT_EQ(folder.list(folder / "model").size(), 6u);
  expect_four(ModelReader(folder / "model"));
}

TEST(ModelDirectory, StoresAnotherDtypeAndSaysSo) {
  const TemporaryFolder folder;
  ModelDirectoryOptions options;
  options.dtype = at::kBFloat16;
  write_model_directory(folder / "model", ModelConfig{}, four(), options);
  EXPECT_EQ(ModelReader(folder / "model").info("a").dtype, at::kBFloat16);
  const auto text = read_text_file(folder / "model/config.json", ExitCode::kCheckpoint);
  EXPECT_EQ(json::parse(text)["torch_dtype"], "bfloat16");
}

TEST(ModelDirectory, IsNotReplacedUnlessAsked) {
  const TemporaryFolder folder;
  write_model_directory(folder / "model", ModelConfig{}, four());
  const NamedTensors other{{"x", at::ones({1})}};
  EXPECT_THAT(error_of([&] { write_model_directory(folder / "model", ModelConfig{}, other); }),
              HasSubstr("already exists"));
  expect_four(ModelReader(folder / "model"));
  ModelDirectoryOptions options;
  options.existing = ExistingFolder::kReplace;
  write_model_directory(folder / "model", ModelConfig{}, other, options);
  EXPECT_THAT(ModelReader(folder / "model").names(), ElementsAre("x"));
  EXPECT_THAT(folder.list(), ElementsAre("model"));
}

TEST(ModelDirectory, NeverReplacesAFolderThatIsNoModel) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "home");
  testing::write_raw(folder / "home/thesis.tex", "years of work");
  ModelDirectoryOptions options;
  options.existing = ExistingFolder::kReplace;
  EXPECT_THAT(
      error_of([&] { write_model_directory(folder / "home", ModelConfig{}, four(), options); }),
      HasSubstr("no model directory"));
  EXPECT_THAT(folder.list(folder / "home"), ElementsAre("thesis.tex"));
}

TEST(ModelDirectory, AFailedWriteLeavesTheOldOneAndNothingElse) {
  const TemporaryFolder folder;
  write_model_directory(folder / "model", ModelConfig{}, four());
  ModelDirectoryOptions options;
  options.existing = ExistingFolder::kReplace;
  options.max_shard_bytes = 1;  // fails at the last of several files
  const NamedTensors bad{{"x", at::ones({1})}, {"y", at::ones({1})}, {"x", at::ones({1})}};
  EXPECT_THAT(
      error_of([&] { write_model_directory(folder / "model", ModelConfig{}, bad, options); }),
      HasSubstr("'x' is given twice"));
  options.tokenizer_path = folder / "none.model";
  EXPECT_THAT(
      error_of([&] { write_model_directory(folder / "model", ModelConfig{}, four(), options); }),
      HasSubstr("none.model"));
  expect_four(ModelReader(folder / "model"));
  EXPECT_THAT(folder.list(), ElementsAre("model"));
}

TEST(ModelDirectory, SaysBeforeWritingThatTheDiskIsTooSmall) {
  const TemporaryFolder folder;
  // Shows 4 EiB and holds one element.
  const at::Tensor huge = at::zeros({1}).expand({int64_t{1} << 60});
  EXPECT_THAT(error_of([&] {
                write_model_directory(folder / "model", ModelConfig{}, {{"x", huge}});
              }),
              AllOf(HasSubstr("need 4611686018427387904 bytes"), HasSubstr("ENOSPC")));
  EXPECT_TRUE(folder.list().empty());
}

/// A directory with two shards whose index is changed by `change`.
std::string error_of_index(const std::function<void(json&)>& change) {
  const TemporaryFolder folder;
  ModelDirectoryOptions options;
  options.max_shard_bytes = 100;
  write_model_directory(folder / "model", ModelConfig{}, four(), options);
  const std::string path = (folder / "model/") + kIndex;
  json index = json::parse(read_text_file(path, ExitCode::kCheckpoint));
  change(index);
  testing::write_raw(path, index.dump());
  return error_of([&] { ModelReader reader(folder / "model"); });
}

TEST(ModelReader, RefusesAnIndexThatLies) {
  EXPECT_THAT(error_of_index([](json& index) { index.erase("weight_map"); }),
              HasSubstr("no object weight_map"));
  EXPECT_THAT(error_of_index([](json& index) { index["weight_map"]["a"] = 3; }),
              HasSubstr("'a': 3 is not a file name"));
  EXPECT_THAT(
      error_of_index([](json& index) { index["weight_map"]["z"] = index["weight_map"]["a"]; }),
      HasSubstr("tensor 'z' is not in model-00002-of-00002.safetensors"));
  EXPECT_THAT(error_of_index([](json& index) { index["weight_map"]["a"] = "gone.safetensors"; }),
              HasSubstr("of 3 weight files in the index, 1 missing (gone.safetensors)"));
}

TEST(ModelReader, RefusesANameThatNoFileCanHave) {
  EXPECT_THAT(error_of_index([](json& index) { index["weight_map"]["a"] = std::string(300, 'x'); }),
              HasSubstr("1 missing (xxx"));
}

TEST(ModelReader, RefusesPathsOutOfTheDirectory) {
  for (const char* path : {"../x.safetensors", "/etc/passwd", "sub/x.safetensors", "..", ""}) {
    EXPECT_THAT(error_of_index([&](json& index) { index["weight_map"]["a"] = path; }),
                HasSubstr("not the plain name of a file in this folder"));
  }
}

TEST(ModelReader, SaysWhatADirectoryLacks) {
  const TemporaryFolder folder;
  EXPECT_THAT(error_of([&] { ModelReader reader(folder / "none"); }), HasSubstr("is not a folder"));
  EXPECT_THAT(error_of([&] { ModelReader reader(folder.path()); }),
              HasSubstr("neither model.safetensors nor"));
  testing::write_raw(folder / "pytorch_model.bin", "PK");
  EXPECT_THAT(error_of([&] { ModelReader reader(folder.path()); }),
              AllOf(HasSubstr("pytorch_model.bin"), HasSubstr("arbitrary code")));
}

TEST(CheckTensors, PassesWhatFitsAndOldRotaryBuffers) {
  const TemporaryFolder folder;
  NamedTensors tensors = four();
  tensors.emplace_back("model.layers.0.self_attn.rotary_emb.inv_freq", at::ones({8}));
  write_model_directory(folder / "model", ModelConfig{}, tensors);
  EXPECT_NO_THROW(check_tensors(ModelReader(folder / "model"),
                                {{"a", {2, 5}}, {"b", {2, 5}}, {"c", {2, 5}}, {"d", {2, 5}}}));
}

TEST(CheckTensors, RefusesWholeNumbersAsWeights) {
  const TemporaryFolder folder;
  NamedTensors tensors = four();
  tensors[1].second = at::ones({2, 5}, at::kInt);
  write_model_directory(folder / "model", ModelConfig{}, tensors);
  const ModelReader reader(folder / "model");
  EXPECT_THAT(error_of([&] {
                check_tensors(reader, {{"a", {2, 5}}, {"b", {2, 5}}, {"c", {2, 5}}, {"d", {2, 5}}});
              }),
              HasSubstr("1 not of a floating-point dtype (b: I32 [2, 5])"));
}

TEST(CheckTensors, NamesEverythingThatDoesNotFitInOneError) {
  const TemporaryFolder folder;
  write_model_directory(folder / "model", ModelConfig{}, four());
  const ModelReader reader(folder / "model");
  std::vector<std::pair<std::string, std::vector<int64_t>>> expected{{"a", {2, 5}}, {"b", {5, 2}}};
  for (int i = 0; i < 7; ++i) expected.push_back({fmt::format("m{}", i), {1}});
  EXPECT_THAT(error_of([&] { check_tensors(reader, expected); }),
              AllOf(HasSubstr("7 missing (m0, m1, m2, m3, m4, and 2 more)"),
                    HasSubstr("2 unexpected (c, d)"),
                    HasSubstr("1 of another shape (b: [2, 5] in the file, [5, 2] in the model)")));
}

}  // namespace
}  // namespace lorikeet
