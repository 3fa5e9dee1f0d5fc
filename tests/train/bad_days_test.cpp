// Losses that are not finite, and spikes, end to end.
#include "tests/train/program.h"

namespace lorikeet {
namespace {

using namespace train_testing;
using ::testing::HasSubstr;

class BadDays : public TrainProgram {
 protected:
  /// A decay of 100 times the weights, every step: they grow until they overflow.
  const Settings overflow_ = {"schedule.peak=100",          "schedule.kind=constant",
                              "schedule.warmup=never",      "optimizer.weight_decay=1",
                              "safety.max_skipped_steps=4", "safety.spike_threshold=0"};
  const Settings calm_ = {"schedule.peak=1e-2", "optimizer.weight_decay=0"};
  /// The words after "hint: " of a run that ended with 5.
  static std::string hint_of(const Ended& ended) {
    EXPECT_EQ(ended.code, 5) << ended.err;
    const size_t at = ended.err.find("hint: ");
    return at == std::string::npos ? ""
                                   : ended.err.substr(at + 6, ended.err.find('\n', at) - at - 6);
  }
};

TEST_F(BadDays, StepsThatAreNotFiniteAreSkippedAndTheRunEndsAsDiverged) {
  const Settings& settings = overflow_;
  const Ended ended = run("run", settings);
  ASSERT_EQ(ended.code, 5) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("diverged"));
  EXPECT_EQ(status("run").at("state"), "diverged");
  EXPECT_THAT(status("run").at("message").get<std::string>(), HasSubstr("more than 4 steps"));
  const std::vector<Json> rows = course("run");
  ASSERT_GE(rows.size(), 6u);
  for (size_t i = 0; i < 5; ++i) {  // the last five
    const Json& row = rows[rows.size() - 5 + i];
    EXPECT_TRUE(row.at("loss").is_null() || row.at("grad_norm").is_null()) << row;
  }
  EXPECT_FALSE(exists("run", "model"));

  const Ended again = run("run", settings);
  EXPECT_EQ(again.code, 5) << again.err;
  EXPECT_THAT(again.err, HasSubstr("does not go on by itself"));
  EXPECT_THAT(again.err, HasSubstr("--resume"));
  expect_same(course("run"), rows);
}

TEST_F(BadDays, TheHintAfterADivergenceNamesACheckpointThatIsThere) {
  const Settings settings = overflow_ + Settings{"checkpoint.every=2steps"};
  ASSERT_EQ(run("run", settings).code, 5);
  const std::string hint = hint_of(run("run", settings));
  const std::string path = file("run", "checkpoints/" + checkpoints("run").back());
  EXPECT_EQ(hint, "change what made it diverge and go on with --resume " + path);
  EXPECT_EQ(run("run", settings, {"--resume", path}).code, 5) << "it goes on, and diverges again";
}

TEST_F(BadDays, TheHintAfterADivergenceWithoutACheckpointIsToStartOver) {
  const Settings settings = overflow_ + Settings{"checkpoint.every=never"};
  ASSERT_EQ(run("run", settings).code, 5);
  EXPECT_EQ(hint_of(run("run", settings)),
            "change what made it diverge and start over with --resume never, or under another "
            "`name`");
  finish("run", settings + calm_, {"--resume", "never"});
  EXPECT_EQ(course("run").size(), 30u);
}

/// A learning rate of nearly 0 makes a batch's loss its finger print, and a tiny threshold makes
/// a spike of every loss above the mean.
class Rollback : public TrainProgram {
 protected:
  const Settings frozen_ = {"schedule.peak=1e-30", "safety.spike_threshold=1e-6"};
  const Settings rolling_ =
      frozen_ + Settings{"safety.spike_action=rollback", "safety.max_rollbacks=3"};
};

TEST_F(Rollback, LeavesOutTheOffendingDataAndGivesUpAfterTheLastOne) {
  finish("log", frozen_ + Settings{"train.steps=40"});
  const std::string text = read_text(file("log", "log.txt"));
  EXPECT_THAT(text, HasSubstr("the loss spikes to"));
  const std::string last = text.substr(text.rfind('\n', text.size() - 2) + 1);
  for (const char* part :
       {"time: ", "steps ", "validation ", "checkpoints ", "writing the model ", "stalled "}) {
    EXPECT_THAT(last, HasSubstr(part));
  }
  const Settings settings = rolling_ + Settings{"train.steps=40"};
  const Ended ended = run("run", settings);
  ASSERT_EQ(ended.code, 5) << ended.err;
  EXPECT_EQ(status("run").at("state"), "diverged");
  EXPECT_THAT(status("run").at("message").get<std::string>(), HasSubstr("after 3 rollbacks"));
  EXPECT_THAT(read_text(file("run", "log.txt")), HasSubstr("rolled back to step 20"));

  const auto skipped = Json::parse(read_text(file("run", "skipped_data.json")));
  ASSERT_EQ(skipped.size(), 3u);
  std::vector<double> expected = losses("log");
  for (auto range = skipped.rbegin(); range != skipped.rend(); ++range) {
    const int64_t first = range->at(0);
    ASSERT_EQ(range->at(1).get<int64_t>(), first + 4);
    ASSERT_EQ(first % 4, 0);
    EXPECT_GE(first, 20 * 4) << "a spike without history";
    expected.erase(expected.begin() + first / 4);
  }
  const std::vector<double> actual = losses("run");
  ASSERT_GT(actual.size(), 20u);
  expected.resize(actual.size());
  EXPECT_EQ(actual, expected);
}

class SlowRollback : public Rollback {};

TEST_F(SlowRollback, SkipsTheSameDataAfterAKillAndAResume) {
  const Settings settings = slow_steps() + rolling_;
  ASSERT_EQ(run("straight", settings).code, 5);
  Child child = start("killed", settings);
  ASSERT_TRUE(child.wait_until([&] { return exists("killed", "skipped_data.json"); }));
  child.send(SIGKILL);
  ASSERT_EQ(child.wait().code, -SIGKILL);
  ASSERT_EQ(run("killed", settings).code, 5);
  EXPECT_EQ(read_text(file("killed", "skipped_data.json")),
            read_text(file("straight", "skipped_data.json")));
  expect_same(course("killed"), course("straight"));
}

/// Words, and in their midst a stretch of text that is none, a few contexts long: what a broken
/// disk or a wrong decoder leaves in a corpus.
std::string lines_with_a_corrupted_stretch() {
  std::mt19937 random(7);
  std::string text;
  while (text.size() < 600) text += "#$%&()*+,;!"[random() % 11];
  return data_testing::make_lines(800, "news", 3) + data_testing::line(text, "news") +
         data_testing::make_lines(800, "news", 4);
}

TEST_F(SlowRollback, ACorruptedStretchOfDataIsLeftOutAndTheRunGoesOnToItsEndAlsoAfterAKill) {
  const std::string shards =
      data_testing::make_dataset(folder_, lines_with_a_corrupted_stretch(), 0.1);
  const Settings log =
      slow_steps() + Settings{"data.shards=" + shards, "train.steps=100", "train.batch_sequences=2",
                              "safety.spike_threshold=3",
                              "seed=6"};  // whose order brings it after 60 steps
  const Settings settings =
      log + Settings{"safety.spike_action=rollback", "safety.max_rollbacks=20"};
  finish("log", log);
  finish("straight", settings);
  EXPECT_THAT(read_text(file("log", "log.txt")), HasSubstr("the loss spikes to"));
  EXPECT_THAT(read_text(file("straight", "log.txt")), HasSubstr("rolled back to step"));
  EXPECT_EQ(course("straight").size(), 100u);
  // The spread is known from step 20 on; the worst loss from there was a corrupted one, and is
  // gone.
  const auto worst = [&](const std::string& name) {
    const std::vector<double> values = losses(name);
    return *std::max_element(values.begin() + 20, values.end());
  };
  EXPECT_GT(worst("log"), worst("straight") + 1);

  Child child = start("killed", settings);
  ASSERT_TRUE(child.wait_until([&] { return exists("killed", "skipped_data.json"); }));
  child.send(SIGKILL);
  ASSERT_EQ(child.wait().code, -SIGKILL);
  finish("killed", settings);
  EXPECT_EQ(read_text(file("killed", "skipped_data.json")),
            read_text(file("straight", "skipped_data.json")));
  expect_same("killed", "straight");
}

TEST_F(Rollback, GoesBackToTheBeginningWhereThereIsNoCheckpoint) {
  const Settings settings =
      rolling_ + Settings{"checkpoint.every=39steps", "train.steps=40", "safety.max_rollbacks=1"};
  ASSERT_EQ(run("run", settings).code, 5);
  EXPECT_FALSE(exists("run", "checkpoints/step_00000000")) << "saved what it had gone back to";
  EXPECT_THAT(read_text(file("run", "log.txt")), HasSubstr("rolled back to step 0;"));
  const std::vector<Json> rows = course("run");
  for (size_t i = 0; i < rows.size(); ++i) EXPECT_EQ(rows[i].at("step"), i + 1);
}

TEST_F(Rollback, ARunThatStartsOverLeavesNothingOut) {
  const Settings no_checkpoint = {"checkpoint.every=never", "train.steps=40"};
  const Settings frozen = frozen_ + no_checkpoint;
  finish("log", frozen);
  ASSERT_EQ(run("run", rolling_ + no_checkpoint + Settings{"safety.max_rollbacks=1"}).code, 5);
  ASSERT_TRUE(exists("run", "skipped_data.json"));
  finish("run", frozen, {"--resume", "never"});
  EXPECT_EQ(losses("run"), losses("log"));
  EXPECT_FALSE(exists("run", "skipped_data.json")) << "a later resume would read it";
}

}  // namespace
}  // namespace lorikeet
