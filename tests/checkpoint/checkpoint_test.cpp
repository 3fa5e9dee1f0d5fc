#include "lorikeet/checkpoint/checkpoint.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <thread>

#include "lorikeet/storage/safetensors.h"
#include "tests/checkpoint/content.h"

namespace lorikeet {
namespace {

using namespace lorikeet::testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Steps = std::vector<int64_t>;

TEST(CheckpointStore, GivesBackEverythingItWasGiven) {
  const TemporaryFolder folder;
  CheckpointStore store(folder / "run", keep(3), one_rank(), quick_retry());
  CheckpointContent content = make_content(1000);
  for (const auto& [name, tensor] :
       NamedTensors{{"half", torch::randn({3, 2}).to(torch::kBFloat16)},
                    {"double", torch::randn({2, 1, 2}, torch::kDouble)},
                    {"long", torch::tensor({1L << 60, -1L})},
                    {"bool", torch::tensor({true, false})},
                    {"empty", torch::empty({0, 4})},
                    {"strided", torch::randn({4, 6}).t()},
                    {"parameter", torch::ones({2}).requires_grad_()}}) {
    content.tensors.push_back(whole_piece(name, tensor));
  }
  content.states["text"] = R"("quotes \" and ünicode")";
  content.config_yaml = "name: 'ünicode'\n# \"quoted\"\n";
  store.save(content);
  expect_equal(store.load(1000), content);
  expect_equal(CheckpointStore::load(folder / "run/checkpoints/step_00001000"), content);
  expect_equal(*store.load_newest(), content);
  EXPECT_THAT(folder.list(store.path_of(1000)),
              ElementsAre("manifest.json", "state.json", "tensors_rank_00000.safetensors"));
  EXPECT_THAT(folder.list(folder / "run/checkpoints"), ElementsAre("step_00001000"));
}

TEST(CheckpointStore, SavesAContentWithoutTensorsAndStates) {
  const TemporaryFolder folder;
  CheckpointStore store(folder / "run", keep(3), one_rank(), quick_retry());
  store.save({});
  expect_equal(store.load(0), {});
}

TEST(CheckpointStore, ReturnsDoublesAndLargeNumbersInStatesUnchanged) {
  const TemporaryFolder folder;
  CheckpointStore store(folder / "run", keep(3), one_rank(), quick_retry());
  CheckpointContent content = make_content(1);
  content.states = {{"numbers", "[0.1,1e-300,18446744073709551615,-9223372036854775808,-0.0]"}};
  store.save(content);
  EXPECT_EQ(store.load(1).states, content.states);
  content.states = {{"broken", "{"}};
  EXPECT_THAT(error_of(ExitCode::kInternal, [&] { store.save(content); }), HasSubstr("'broken'"));
  EXPECT_EQ(store.list(), Steps{1});
}

TEST(CheckpointStore, TensorsOutliveTheirFile) {
  const TemporaryFolder folder;
  CheckpointContent loaded;
  {
    CheckpointStore store(folder / "run", keep(1), one_rank(), quick_retry());
    store.save(make_content(1));
    loaded = store.load(1);
    store.save(make_content(2));
    EXPECT_EQ(store.list(), Steps{2});
  }
  expect_equal(loaded, make_content(1));
}

TEST(CheckpointStore, ListsStepsNewestFirstAndNothingElse) {
  const TemporaryFolder folder;
  CheckpointStore store(folder / "run", keep(9), one_rank(), quick_retry());
  EXPECT_THAT(store.list(), IsEmpty());
  EXPECT_FALSE(store.load_newest().has_value());
  for (const int64_t step : {20L, 3L, 123456789012L}) store.save(make_content(step));
  for (const char* name : {"step_00000004.tmp", "step_5", "step_000000006", "step_",
                           "step_-0000001", "best", "step_0000000x"}) {
    std::filesystem::create_directory(folder / "run/checkpoints/" + name);
  }
  EXPECT_EQ(store.list(), (Steps{123456789012, 20, 3}));
}

TEST(CheckpointStore, ReplacesTheCheckpointOfTheSameStep) {
  const TemporaryFolder folder;
  CheckpointStore store(folder / "run", keep(3), one_rank(), quick_retry());
  store.save(make_content(4));
  CheckpointContent other = make_content(4);
  other.tensors[0] = whole_piece("model.weight", torch::ones({5}));
  store.save(other);
  expect_equal(store.load(4), other);
  EXPECT_THAT(folder.list(folder / "run/checkpoints"), ElementsAre("step_00000004"));
}

TEST(CheckpointStore, KeepsTheLastOnesAndTheMilestones) {
  const TemporaryFolder folder;
  CheckpointStore store(folder / "run", keep(2, Period::steps(30)), one_rank(), quick_retry());
  for (int64_t step = 10; step <= 90; step += 10) store.save(make_content(step));
  EXPECT_EQ(store.list(), (Steps{90, 80, 60, 30}));
  EXPECT_EQ(folder.list(folder / "run/checkpoints").size(), 4u);
  for (const int64_t step : store.list()) expect_equal(store.load(step), make_content(step));
}

TEST(CheckpointStore, KeepsTheOneJustSavedAlways) {
  const TemporaryFolder folder;
  CheckpointStore store(folder / "run", keep(0), one_rank(), quick_retry());
  for (const int64_t step : {10, 20}) store.save(make_content(step));
  EXPECT_EQ(store.list(), Steps{20});
  // Saved after going back: later ones, of a course given up, must not push it out.
  CheckpointStore narrow(folder / "run", keep(1), one_rank(), quick_retry());
  narrow.save(make_content(15));
  EXPECT_EQ(narrow.list(), (Steps{20, 15}));
  narrow.discard_after(15);
  EXPECT_EQ(narrow.list(), Steps{15});
  EXPECT_THAT(folder.list(folder / "run/checkpoints"), ElementsAre("step_00000015"));
}

TEST(CheckpointStore, DoesNotCountABrokenOneAmongThoseItKeeps) {
  const TemporaryFolder folder;
  CheckpointStore store(folder / "run", keep(2), one_rank(), quick_retry());
  for (const int64_t step : {10, 20}) store.save(make_content(step));
  overwrite_file(store.path_of(20) + "/manifest.json", "{}");
  store.save(make_content(30));
  EXPECT_EQ(store.list(), (Steps{30, 20, 10}));
  store.save(make_content(40));
  EXPECT_EQ(store.list(), (Steps{40, 30, 20}));
}

TEST(CheckpointStore, RefusesRetentionInOtherUnitsThanSteps) {
  error_of(ExitCode::kInternal, [] { CheckpointStore("run", keep(1, Period::tokens(1000))); });
}

TEST(CheckpointStore, ClearsWhatKilledWritersLeft) {
  const TemporaryFolder folder;
  CheckpointStore store(folder / "run", keep(3), one_rank(), quick_retry());
  store.save(make_content(1));
  const std::string checkpoints = folder / "run/checkpoints/";
  for (const char* name : {"step_00000002.tmp", "step_00000003.tmp-delete", "step_00000001.old"}) {
    std::filesystem::create_directory(checkpoints + name);
    overwrite_file(checkpoints + name + "/manifest.json", "half");
  }
  std::filesystem::create_directory(checkpoints + "notes.tmp");  // not ours
  std::filesystem::copy(store.path_of(1), checkpoints + "step_00000000.old");
  store.save(make_content(4));
  EXPECT_THAT(folder.list(checkpoints),
              ElementsAre("notes.tmp", "step_00000000", "step_00000001", "step_00000004"));
}

TEST(CheckpointStore, SavesInTheBackgroundWhatWasThereAtTheCall) {
  const TemporaryFolder folder;
  CheckpointStore store(folder / "run", keep(9), one_rank(), quick_retry());
  CheckpointContent content = make_content(1, 1 << 20);
  for (int64_t step = 1; step <= 5; ++step) {
    content.step = step;
    content.tensors[0].values.fill_(static_cast<double>(step));
    store.save_in_background(content);
    content.tensors[0].values.fill_(-1);  // training goes on in place
  }
  store.wait();
  EXPECT_FALSE(store.is_saving());
  EXPECT_FALSE(store.take_error().has_value());
  EXPECT_EQ(store.list(), (Steps{5, 4, 3, 2, 1}));
  for (const int64_t step : store.list()) {
    EXPECT_TRUE(whole_tensor(store.load(step), "model.weight")
                    .eq(static_cast<double>(step))
                    .all()
                    .item<bool>());
  }
}

TEST(CheckpointStore, FinishesASaveInTheBackgroundBeforeItGoes) {
  const TemporaryFolder folder;
  CheckpointStore(folder / "run", keep(9), one_rank(), quick_retry())
      .save_in_background(make_content(7));
  EXPECT_EQ(CheckpointStore(folder / "run", keep(9)).load_newest()->step, 7);
}

TEST(CheckpointStore, KeepsAnErrorOfTheBackgroundAndGoesOn) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "run");
  overwrite_file(folder / "run/checkpoints", "a file in the way");
  CheckpointStore store(folder / "run", keep(3), one_rank(), quick_retry());
  store.save_in_background(make_content(1));
  store.wait();
  const auto error = store.take_error();
  ASSERT_TRUE(error.has_value());
  EXPECT_THAT(error->what(), HasSubstr("checkpoints"));
  EXPECT_FALSE(store.take_error().has_value());
  error_of(ExitCode::kCheckpoint, [&] { store.save(make_content(2)); });
  std::filesystem::remove(folder / "run/checkpoints");
  store.save_in_background(make_content(3));
  store.wait();
  EXPECT_FALSE(store.take_error().has_value());
  EXPECT_EQ(store.load_newest()->step, 3);
}

TEST(CheckpointStore, TriesAgainWhileTheDiskRecovers) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "run");
  overwrite_file(folder / "run/checkpoints", "a file in the way");
  CheckpointStore store(folder / "run", keep(3), one_rank(),
                        {.attempts = 1000, .pause_seconds = 0.02});
  store.save_in_background(make_content(1));
  EXPECT_TRUE(store.is_saving());
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  std::filesystem::remove(folder / "run/checkpoints");
  store.wait();
  EXPECT_FALSE(store.take_error().has_value());
  EXPECT_EQ(store.load_newest()->step, 1);
}

}  // namespace
}  // namespace lorikeet
