// `lorikeet preflight` as a process, alone and as two ranks over Gloo.
#include "tests/checkpoint/small_disk.h"
#include "tests/train/ranks.h"

namespace lorikeet {
namespace {

using namespace train_testing;
using ::testing::HasSubstr;
using ::testing::Not;

class Preflight : public RanksProgram {
 protected:
  Preflight() { command_ = "preflight"; }

  Json report(const std::string& name) const {
    return Json::parse(read_text(file(name, "preflight.json")));
  }
  /// {"go", "0.8 GB ..."} of a check; {"", ""} where there is none.
  std::pair<std::string, std::string> check(const std::string& run, const std::string& name) const {
    const Json all = report(run);
    for (const Json& check : all.at("checks")) {
      if (check.at("name") == name) return {check.at("verdict"), check.at("figure")};
    }
    return {};
  }
  std::string verdict(const std::string& run, const std::string& name) const {
    return check(run, name).first;
  }
  void expect_nothing_left(const std::string& name) const {
    EXPECT_THAT(folder_.list(folder_ / name), ::testing::ElementsAre("preflight.json"));
    expect_no_scratch();
  }
  void expect_no_scratch() const {
    for (const std::string& entry : folder_.list())
      EXPECT_THAT(entry, Not(HasSubstr(".preflight")));
  }
};

TEST_F(Preflight, OfOneRankEndsWithGo) {
  const Ended ended = run("one");
  ASSERT_EQ(ended.code, 0) << ended.out << ended.err;
  EXPECT_THAT(ended.out, ::testing::EndsWith("\ngo\n"));
  EXPECT_TRUE(report("one").at("go").get<bool>());
  for (const char* name : {"layout", "program", "configuration", "data", "operators on cpu",
                           "storage room", "storage", "kill and resume", "memory", "speed"}) {
    EXPECT_EQ(verdict("one", name), "go") << name;
  }
  EXPECT_EQ(verdict("one", "collectives"), "skipped");
  EXPECT_EQ(verdict("one", "first step, CPU against GPU"), "skipped");
  expect_nothing_left("one");
}

TEST_F(Preflight, OfTwoRanksMeasuresTheAxesOfTheLayout) {
  for (Child& rank : start_ranks("two", {1, 2, 3}, small_steps())) {
    const Ended ended = rank.wait();
    ASSERT_EQ(ended.code, 0) << ended.out << ended.err;
  }
  for (const char* name : {"shard all_reduce", "shard reduce_scatter", "shard all_gather",
                           "storage", "kill and resume", "memory", "speed"}) {
    EXPECT_EQ(verdict("two", name), "go") << name;
  }
  EXPECT_EQ(verdict("two", "replicate all_reduce"), "");
  expect_nothing_left("two");
}

/// Whether a preflight is at its trial in `folder`, and a checkpoint or a step of it is there.
bool is_at_trial(const std::string& folder) {
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (std::filesystem::exists(entry.path() / "trial/metrics.jsonl")) return true;
  }
  return false;
}

TEST_F(Preflight, ThatIsAskedToStopLeavesNothing) {
  const std::string local = folder_ / "local";
  for (const int signal : {SIGTERM, SIGINT}) {
    Child child =
        start("one", slow_steps() + Settings{"checkpoint.local=" + local, "data.prefetch=1"});
    ASSERT_TRUE(child.wait_until([&] { return is_at_trial(folder_.path()); }));
    child.send(signal);
    const Ended ended = child.wait();
    EXPECT_EQ(ended.code, 75) << ended.err;
    EXPECT_THAT(ended.err, HasSubstr("stopped by request"));
    expect_no_scratch();
    EXPECT_TRUE(folder_.list(local).empty());
  }
}

TEST_F(Preflight, OneOfWhoseRanksIsAskedToStopLeavesNothing) {
  std::deque<Child> ranks = start_ranks("two", {1, 2, 3}, small_steps() + slow_steps());
  ASSERT_TRUE(ranks[0].wait_until([&] { return is_at_trial(folder_.path()); }));
  ranks[1].send(SIGTERM);
  for (Child& rank : ranks) {
    const Ended ended = rank.wait();
    EXPECT_EQ(ended.code, 75) << ended.err;
  }
  expect_no_scratch();
}

TEST_F(Preflight, ThatIsKilledIsClearedByTheNextWhichLeavesALivingOneAlone) {
  Child killed = start("one", slow_steps());
  ASSERT_TRUE(killed.wait_until([&] { return is_at_trial(folder_.path()); }));
  killed.send(SIGKILL);
  killed.wait();
  EXPECT_TRUE(is_at_trial(folder_.path()));
  Child first = start("one"), second = start("two");
  for (Child* child : {&first, &second}) {
    const Ended ended = child->wait();
    EXPECT_EQ(ended.code, 0) << ended.out << ended.err;
  }
  expect_nothing_left("one");
}

TEST_F(Preflight, BesideTheRunItselfIsRefused) {
  command_ = "pretrain";
  Child training = start("one", {"train.steps=1000000"});
  ASSERT_TRUE(training.wait_until([&] { return logged_step("one") > 0; }));
  command_ = "preflight";
  const Ended ended = run("one");
  EXPECT_EQ(ended.code, 2) << ended.out << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("a process is training in this folder"));
  EXPECT_FALSE(exists("one", "preflight.json"));
}

TEST_F(Preflight, ALimitThatIsNotReachedIsANoGo) {
  const Ended ended = run("one", {}, {"--min-storage", "1e9"});
  EXPECT_EQ(ended.code, 7) << ended.out << ended.err;
  EXPECT_THAT(ended.out, ::testing::ContainsRegex("\nno-go: 1 of [0-9]+\n$"));
  EXPECT_THAT(ended.err, HasSubstr("error: preflight: no-go\n"));
  EXPECT_FALSE(report("one").at("go").get<bool>());
  EXPECT_EQ(verdict("one", "storage"), "no-go");
  EXPECT_EQ(verdict("one", "memory"), "go");  // whose limit CheckTrial tries
  EXPECT_EQ(verdict("one", "kill and resume"), "go");
}

TEST_F(Preflight, TooFewBytesASecondBetweenRanksAreANoGoOnAll) {
  for (Child& rank : start_ranks("two", {2, 1, 0}, small_steps(), nullptr,
                                 {"--min-bandwidth", "1e9", "--trial-seconds", "0"})) {
    EXPECT_EQ(rank.wait().code, 7);
  }
  for (const char* name :
       {"replicate all_reduce", "replicate reduce_scatter", "replicate all_gather"}) {
    EXPECT_EQ(verdict("two", name), "no-go") << name;
  }
  EXPECT_EQ(verdict("two", "kill and resume"), "no-go");  // in no time
  EXPECT_THAT(check("two", "kill and resume").second, HasSubstr("at step 0 after 0 s"));
  expect_nothing_left("two");
}

TEST_F(Preflight, WithoutRoomForTheRunsCheckpointsNothingIsTried) {
  const Ended ended =
      run("one", slow_steps() + Settings{"train.steps=1000000000", "checkpoint.every=1steps",
                                         "checkpoint.keep_every=1steps"});
  EXPECT_EQ(ended.code, 7) << ended.out << ended.err;
  EXPECT_EQ(verdict("one", "storage room"), "no-go");
  EXPECT_EQ(verdict("one", "kill and resume, memory, speed"), "skipped");
}

TEST_F(Preflight, ADiskThatFillsWhileWritingIsANoGo) {
  const lorikeet::testing::SmallDisk disk("size=8m");
  if (!disk.is_mounted()) GTEST_SKIP() << "mounting needs root";
  const Ended ended = run("one", {"output=" + disk.folder().path()});
  EXPECT_EQ(ended.code, 7) << ended.out << ended.err;
  EXPECT_THAT(ended.out, HasSubstr("No space left on device"));
}

TEST_F(Preflight, AnotherNumberOfRanksIsANoGoBeforeTheyMeet) {
  const Ended ended = run("one", {"parallel.shard=2"});
  EXPECT_EQ(ended.code, 7) << ended.out << ended.err;
  EXPECT_EQ(verdict("one", "layout"), "no-go");
  EXPECT_THAT(check("one", "layout").second, HasSubstr("parallel.shard: 2"));
}

TEST_F(Preflight, RanksWithDifferentConfigurationsAreToldTheKey) {
  const auto of_rank = [](int rank) {
    return rank == 1 ? Settings{"schedule.peak=0.5"} : Settings{};
  };
  for (Child& rank : start_ranks("two", {2, 1, 0}, small_steps(), of_rank)) {
    EXPECT_EQ(rank.wait().code, 7);
  }
  EXPECT_EQ(verdict("two", "configuration"), "no-go");
  EXPECT_EQ(check("two", "configuration").second, "schedule.peak: 0.5 here, 0.01 on rank 0");
  EXPECT_EQ(verdict("two", "everything else"), "skipped");
}

TEST_F(Preflight, MissingDataIsANoGo) {
  const Ended ended = run("one", {"data.shards=/no/such/shards"});
  EXPECT_EQ(ended.code, 7) << ended.out << ended.err;
  EXPECT_EQ(verdict("one", "data"), "no-go");
  EXPECT_THAT(check("one", "data").second, HasSubstr("/no/such/shards"));
}

}  // namespace
}  // namespace lorikeet
