// What a user may get wrong, or a disk: every message and code, through the real program.
#include <sys/mount.h>

#include "lorikeet/data/order_file.h"
#include "tests/train/program.h"

namespace lorikeet {
namespace {

using namespace train_testing;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class BadInput : public TrainProgram {
 protected:
  /// A data set of the test's own.
  std::string make_shards(const std::string& lines) {
    static int count = 0;
    const std::string name = fmt::format("data_{}", ++count);
    write_text(folder_ / name + ".jsonl", lines);
    tokenize({.inputs = {folder_ / name + ".jsonl"},
              .tokenizer = data_testing::small_tokenizer(),
              .output = folder_ / name,
              .held_out = 0.1,
              .shard_tokens = 100'000,
              .threads = 1});
    return folder_ / name;
  }
  void flip_a_byte(const std::string& path) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    const auto middle = static_cast<std::streamoff>(std::filesystem::file_size(path) / 2);
    file.seekg(middle);
    const char old = static_cast<char>(file.get());
    file.seekp(middle);
    file.put(static_cast<char>(old ^ 1));
  }
  /// `lorikeet data tokenize` of one file into folder_/`output`.
  Ended tokenize_by_program(const std::string& input, const std::string& output) {
    return Child({program(), "data", "tokenize", "--input", input, "--tokenizer",
                  data_testing::small_tokenizer(), "--output", folder_ / output, "--shard-tokens",
                  "20000", "--threads", "1"},
                 folder_ / "tokenize")
        .wait();
  }
  static std::string shard_of(const std::string& shards) { return shards + "/shard_00000.tokens"; }
};

/// A small disk of the test's own at `path`, where this process may mount one.
class SmallDisk {
 public:
  SmallDisk(const std::string& path, const std::string& size) : path_(path) {
    std::filesystem::create_directory(path);
    is_mounted_ = mount(0, size);
  }
  ~SmallDisk() {
    if (is_mounted_) ::umount2(path_.c_str(), MNT_DETACH);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;

  bool is_mounted() const { return is_mounted_; }
  bool grow_to(const std::string& size) { return mount(MS_REMOUNT, size); }

 private:
  bool mount(unsigned long flags, const std::string& size) const {
    return ::mount("tmpfs", path_.c_str(), "tmpfs", flags, ("size=" + size).c_str()) == 0;
  }
  std::string path_;
  bool is_mounted_ = false;
};
const char* const kNoMount = "mounting a tmpfs is not permitted here";

/// One error line with `parts`, one hint, no more.
void expect_refused(const Ended& ended, int code, const std::vector<std::string>& parts) {
  EXPECT_EQ(ended.code, code) << ended.err;
  for (const std::string& part : parts) EXPECT_THAT(ended.err, HasSubstr(part));
  EXPECT_THAT(ended.err, HasSubstr("error: "));
  EXPECT_THAT(ended.err, HasSubstr("\nhint: "));
  EXPECT_THAT(ended.err, Not(HasSubstr("internal")));
}

TEST_F(BadInput, AMissingConfiguration) {
  const Ended ended = Child({program(), "pretrain", folder_ / "none.yaml"}, folder_ / "x").wait();
  expect_refused(ended, 2, {folder_ / "none.yaml"});
}

TEST_F(BadInput, NoShardsGiven) {
  expect_refused(run("r", {"data.shards=''"}), 2, {"data.shards"});
}

TEST_F(BadInput, MissingShards) {
  expect_refused(run("r", {"data.shards=" + folder_ / "none"}), 3, {folder_ / "none"});
}

TEST_F(BadInput, AMissingInputOfTokenize) {
  const std::string none = folder_ / "none.jsonl";
  expect_refused(tokenize_by_program(none, "tokens"), 3, {none, "hint: check the path"});
}

TEST_F(BadInput, AnEmptyCorpus) {
  for (const char* text : {"", "\n\n"}) {
    write_text(folder_ / "empty.jsonl", text);
    expect_refused(tokenize_by_program(folder_ / "empty.jsonl", "tokens"), 3,
                   {"the input holds no documents"});
    EXPECT_FALSE(std::filesystem::exists(folder_ / "tokens/manifest.json"));
  }
}

TEST_F(BadInput, AFullDiskStopsTokenizeAndWithRoomItGoesOn) {
  SmallDisk disk(folder_ / "disk", "128k");
  if (!disk.is_mounted()) GTEST_SKIP() << kNoMount;
  write_text(folder_ / "much.jsonl", data_testing::make_lines(3000, "news"));
  expect_refused(tokenize_by_program(folder_ / "much.jsonl", "disk/tokens"), 3,
                 {folder_ / "disk/tokens/", "the disk is full", "hint: make room on that disk"});
  EXPECT_FALSE(std::filesystem::exists(folder_ / "disk/tokens/manifest.json"));
  ASSERT_TRUE(disk.grow_to("16m"));
  const Ended ended = tokenize_by_program(folder_ / "much.jsonl", "disk/tokens");
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_EQ(Dataset(folder_ / "disk/tokens").num_documents(), 3000);
}

TEST_F(BadInput, ACorpusSmallerThanOneBatch) {
  const std::string shards = make_shards(data_testing::make_lines(6, "news"));
  expect_refused(run("r", {"data.shards=" + shards, "train.batch_sequences=512"}), 3,
                 {shards, "contexts of 32 tokens", "train.batch_sequences 512"});
}

TEST_F(BadInput, AVocabularyLargerThanTheModels) {
  expect_refused(run("r", {"model.vocab_size=300"}), 3,
                 {tiny_shards(), "vocabulary of 400 pieces", "model.vocab_size is 300",
                  "hint: set model.vocab_size to 400"});
}

TEST_F(BadInput, AShardThatIsCutShortOrChanged) {
  const std::string shards = make_shards(data_testing::make_lines(60, "news"));
  flip_a_byte(shard_of(shards));
  expect_refused(run("r", {"data.shards=" + shards}), 3,
                 {shard_of(shards) + ": tokens: expected checksum"});
  const auto size = std::filesystem::file_size(shard_of(shards));
  std::filesystem::resize_file(shard_of(shards), size / 2);
  expect_refused(run("r", {"data.shards=" + shards}), 3, {shard_of(shards)});
}

TEST_F(BadInput, DataThatChangedBeforeAResume) {
  const std::string old_shards = make_shards(data_testing::make_lines(60, "news"));
  const std::string new_shards = make_shards(data_testing::make_lines(70, "news"));
  finish("r", {"data.shards=" + old_shards, "train.steps=10"});
  const Settings changed = {"data.shards=" + new_shards, "train.steps=20"};
  expect_refused(
      run("r", changed), 3,
      {new_shards, "the data has changed", "fingerprint", "step 10", "--allow-changed-data"});
  finish("r", changed, {"--allow-changed-data"});
  EXPECT_EQ(course("r").size(), 20u);
}

TEST_F(BadInput, ATokenizerThatIsNotTheDatas) {
  const std::string shards = make_shards(data_testing::make_lines(60, "news"));
  const std::string model = shards + "/tokenizer.model";
  write_text(model, read_text(model) + "x");
  expect_refused(run("r", {"data.shards=" + shards}), 3, {model, "expected hash", "manifest.json"});
  std::filesystem::remove(model);
  expect_refused(run("r", {"data.shards=" + shards}), 3, {model});
}

TEST_F(BadInput, AnOrderThatChangedBeforeAResume) {
  const std::string shards = make_shards(data_testing::make_lines(60, "news"));
  const Dataset data(shards);
  std::vector<DocumentNumber> documents = data.documents(Split::kTrain);
  const std::string order = folder_ / "my.order";
  write_order_file(order, documents, data.fingerprint());
  const Settings settings = {"data.shards=" + shards, "data.order=" + order};
  finish("r", settings + Settings{"train.steps=10"});
  std::swap(documents.front(), documents.back());
  write_order_file(order, documents, data.fingerprint());
  expect_refused(run("r", settings + Settings{"train.steps=20"}), 3,
                 {shards, "the data has changed", "step 10", "--allow-changed-data"});
}

TEST_F(BadInput, ABrokenCheckpointIsPassedOverForTheOneBefore) {
  finish("r");
  const std::vector<Json> first = course("r");
  flip_a_byte(file("r", "checkpoints/step_00000030/tensors_rank_00000.safetensors"));
  const Ended ended = run("r");
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("the checkpoint of step 30 is passed over"));
  EXPECT_THAT(ended.err, HasSubstr("checksum"));
  EXPECT_THAT(ended.err, HasSubstr("resumed at step 20 of 30"));
  expect_same(course("r"), first);
  EXPECT_THAT(run("r").err, HasSubstr("resumed at step 30")) << "the broken one was replaced";
}

TEST_F(BadInput, OnlyBrokenCheckpointsAreNoReasonToStartOver) {
  finish("r");
  const std::vector<Json> first = metrics("r");
  for (const std::string& name : checkpoints("r")) {
    flip_a_byte(file("r", "checkpoints/" + name + "/tensors_rank_00000.safetensors"));
  }
  expect_refused(run("r"), 4, {file("r", "checkpoints"), "none of 3 checkpoints is whole"});
  expect_same(metrics("r"), first);
  EXPECT_EQ(checkpoints("r").size(), 3u);
}

TEST_F(BadInput, ACheckpointThatIsGivenAndIsNone) {
  expect_refused(run("r", {}, {"--resume", folder_ / "none"}), 4, {folder_ / "none"});
}

TEST_F(BadInput, ResumeNeverDoesNotOverwriteARun) {
  finish("r");
  expect_refused(run("r", {}, {"--resume", "never"}), 2,
                 {folder_ / "r", "already holds checkpoints", "`name`"});
}

TEST_F(BadInput, AModelThatChangedBeforeAResume) {
  finish("r");
  expect_refused(run("r", {"model.ffn_size=32", "seed=5"}), 2,
                 {"model.ffn_size: 24 in the checkpoint, 32 now", "seed: 1 in the checkpoint, 5"});
}

TEST_F(BadInput, TwoRunsInOneFolder) {
  Child first = start("r", slow_steps() + Settings{"train.steps=2000"});
  ASSERT_TRUE(first.wait_until([&] { return logged_step("r") >= 1; }));
  expect_refused(run("r", slow_steps()), 2,
                 {folder_ / "r", "another process is training", "`name`"});
  EXPECT_TRUE(first.is_running());
}

TEST_F(BadInput, ARefusedStartSaysSoInTheStatus) {
  const Settings missing = {"data.shards=" + folder_ / "none"};
  expect_refused(run("new", missing), 3, {folder_ / "none"});
  EXPECT_EQ(status("new").at("state"), "failed");
  EXPECT_EQ(status("new").at("step"), 0);
  finish("new");

  expect_refused(run("new", missing), 3, {folder_ / "none"});
  EXPECT_EQ(status("new").at("state"), "failed") << "it was finished, but this start was not";
  EXPECT_THAT(status("new").at("message").get<std::string>(), HasSubstr(folder_ / "none"));
  EXPECT_EQ(status("new").at("step"), 30);
  EXPECT_EQ(status("new").at("total_steps"), 30);
  const std::vector<Json> rows = metrics("new");
  finish("new");
  expect_same(metrics("new"), rows);
}

TEST_F(BadInput, ARefusedStartLeavesNoFolderWhereNoneWasLocked) {
  expect_refused(run("new", {"parallel.shard=2"}), 2, {"parallel"});
  EXPECT_FALSE(exists("new", ""));
}

TEST_F(BadInput, AnotherTokenizerThanTheShards) {
  const std::string other = folder_ / "other.model";
  write_text(other, read_text(data_testing::small_tokenizer()) + "\n");
  expect_refused(run("r", {"data.tokenizer=" + other}), 3,
                 {"data.tokenizer: " + other, "is not the tokenizer that made " + tiny_shards(),
                  tiny_shards() + "/tokenizer.model"});
  finish("r", {"data.tokenizer=" + data_testing::small_tokenizer()});
}

/// Room for the run's small files, but not for a checkpoint. Failed saves are tried again for a
/// while.
class SlowBadInput : public BadInput {};

TEST_F(SlowBadInput, AFullDiskCostsACheckpointWhileTrainingAndTheRunAtItsEnd) {
  const SmallDisk disk(folder_ / "disk", "128k");
  if (!disk.is_mounted()) GTEST_SKIP() << kNoMount;
  const Ended ended = run("disk/r", {"name=r", "output=" + folder_ / "disk",
                                     "checkpoint.every=5steps", "train.steps=8"});
  const std::vector<Json> rows = course("disk/r");
  const Json left = status("disk/r");
  expect_refused(ended, 4, {"step_00000008", "the disk has", "make room"});
  EXPECT_THAT(ended.err, HasSubstr("the checkpoint of step 5 was not saved, training goes on"));
  EXPECT_EQ(rows.size(), 8u);
  EXPECT_EQ(left.at("state"), "failed");
  EXPECT_THAT(left.at("message").get<std::string>(), HasSubstr("step_00000008"));
}

TEST_F(SlowBadInput, AFullDiskLeavesAStoppedRunOneThatGoesOn) {
  const SmallDisk disk(folder_ / "disk", "128k");
  if (!disk.is_mounted()) GTEST_SKIP() << kNoMount;
  const Settings settings = {"name=r", "output=" + folder_ / "disk", "checkpoint.every=never",
                             "train.steps=1000000"};
  Child child = start("disk/r", settings);
  ASSERT_TRUE(child.wait_until([&] { return logged_step("disk/r") >= 3; }));
  child.send(SIGTERM);
  const Ended ended = child.wait();
  EXPECT_EQ(ended.code, 75) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("the last checkpoint is not written"));
  EXPECT_THAT(ended.err, HasSubstr("its checkpoint could not be written"));
  EXPECT_EQ(status("disk/r").at("state"), "preempted");
}

}  // namespace
}  // namespace lorikeet
