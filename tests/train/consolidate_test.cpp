// One model directory of a checkpoint, whoever wrote it.
#include "lorikeet/train/consolidate.h"

#include "lorikeet/model/load.h"
#include "tests/checkpoint/ranks.h"
#include "tests/support/python.h"
#include "tests/support/source_dir.h"
#include "tests/train/program.h"

namespace lorikeet {
namespace {

using namespace train_testing;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class Consolidate : public TrainProgram {
 protected:
  Ended consolidate_by_program(const std::string& source, const std::string& output) {
    return Child({program(), "consolidate", source, output}, folder_ / "consolidate").wait();
  }
  /// The checkpoint of a run as `size` ranks would have written it.
  std::string cut(const std::string& name, int64_t step, int size,
                  const std::function<void(CheckpointContent&)>& change = {}) {
    CheckpointContent content =
        CheckpointStore::load(file(name, fmt::format("checkpoints/step_{:08}", step)));
    if (change) change(content);
    const std::string run = folder_ / fmt::format("{}_of_{}", name, size);
    EXPECT_THAT(testing::save_on_ranks(run, size, content), Each(IsEmpty()));
    return run;
  }
  void expect_models_equal(const std::string& a, const std::string& b) {
    EXPECT_EQ(folder_.list(a), folder_.list(b));
    for (const std::string& name : folder_.list(a)) {
      EXPECT_TRUE(read_text(a + "/" + name) == read_text(b + "/" + name)) << name;
    }
  }
};

TEST_F(Consolidate, GivesTheModelThatTheRunWroteWhateverTheNumberOfRanks) {
  finish("run");
  const Ended ended = consolidate_by_program(folder_ / "run", folder_ / "out");
  ASSERT_EQ(ended.code, 0) << ended.err;
  EXPECT_THAT(ended.err, AllOf(HasSubstr("parameters of step 30"), HasSubstr("step_00000030")));
  expect_models_equal(folder_ / "run/model", folder_ / "out");
  for (const int size : {2, 5}) {
    const std::string output = folder_ / fmt::format("out_{}", size);
    const Consolidated result = consolidate(cut("run", 30, size), output);
    EXPECT_EQ(result.step, 30);
    expect_models_equal(folder_ / "run/model", output);
  }
  const std::string earlier = file("run", "checkpoints/step_00000010");
  EXPECT_EQ(consolidate(earlier, folder_ / "earlier").step, 10);
  EXPECT_FALSE(read_text(folder_ / "earlier/model.safetensors") == model_bytes("run"));
}

TEST_F(Consolidate, GivesTheDenseModelDuringTheDenseWarmup) {
  finish("run", {"train.dense_warmup=20steps"});
  consolidate(file("run", "checkpoints/step_00000010"), folder_ / "dense");
  EXPECT_THAT(read_text(folder_ / "dense/config.json"), HasSubstr("\"llama\""));
  EXPECT_FALSE(load_language_model(folder_ / "dense")->config().is_merged());
  consolidate(folder_ / "run", folder_ / "merged");
  EXPECT_TRUE(load_language_model(folder_ / "merged")->config().is_merged());
}

TEST_F(Consolidate, NeedsNeitherTheDataNorTheOptimizer) {
  finish("run");
  const auto change = [](CheckpointContent& content) {
    const std::string shards = "shards: " + tiny_shards();
    content.config_yaml.replace(content.config_yaml.find(shards), shards.size(), "shards: /gone");
    std::erase_if(content.tensors, [](const TensorPiece& piece) {
      return piece.name.starts_with("optimizer.") || piece.name.starts_with("random.");
    });
  };
  const std::string run = cut("run", 30, 3, change);
  const Ended ended = consolidate_by_program(run, folder_ / "out");
  ASSERT_EQ(ended.code, 0) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("tokenizer of the run's data is not found"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "out/tokenizer.model"));
  EXPECT_TRUE(read_text(folder_ / "out/model.safetensors") == model_bytes("run"));
}

TEST_F(Consolidate, RefusesWhatIsNoCheckpointOfAModelAndWritesNothing) {
  finish("run");
  const auto expect_refusal = [&](const std::string& source, const std::string& output,
                                  const std::string& message) {
    const Ended ended = consolidate_by_program(source, output);
    EXPECT_EQ(ended.code, 4) << ended.err;
    EXPECT_THAT(ended.err, AllOf(HasSubstr("error: "), HasSubstr(message), HasSubstr("hint: ")));
  };
  expect_refusal(folder_ / "nowhere", folder_ / "out", "is no checkpoint");
  expect_refusal(folder_ / "run", folder_ / "run/model", "already exists");
  const auto lose = [](CheckpointContent& content) {
    std::erase_if(content.tensors, [](const TensorPiece& piece) {
      return piece.name == "model.layers.1.mlp.router.weight";
    });
  };
  expect_refusal(cut("run", 30, 2, lose), folder_ / "out", "'model.layers.1.mlp.router.weight'");
  const auto no_phase = [](CheckpointContent& content) { content.states.clear(); };
  expect_refusal(cut("run", 30, 4, no_phase), folder_ / "out", "dense warm-up");
  for (const std::string& name : checkpoints("run")) {
    std::filesystem::remove(file("run", "checkpoints/" + name + "/state.json"));
  }
  expect_refusal(folder_ / "run", folder_ / "out", "holds no whole checkpoint");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "out"));
}

class SlowCheckpointFiles : public Consolidate {};

TEST_F(SlowCheckpointFiles, AreReadByTheSafetensorsPackage) {
  const std::string python = testing::find_python("safetensors");
  if (python.empty()) GTEST_SKIP() << "no Python with the safetensors package was found";
  finish("run");
  for (const std::string& run : {folder_ / "run", cut("run", 30, 3)}) {
    const std::string command =
        fmt::format("{} '{}/tests/train/read_checkpoint.py' '{}/checkpoints/step_00000030' '{}'",
                    testing::quoted(python), kSourceDir, run, folder_ / "run/model");
    EXPECT_EQ(std::system(command.c_str()), 0) << run;
  }
}

}  // namespace
}  // namespace lorikeet
