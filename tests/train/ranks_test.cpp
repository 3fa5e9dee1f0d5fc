// Several ranks are one process: the same losses, the same weights, the same errors.
#include <array>

#include "lorikeet/config/load.h"
#include "lorikeet/core/cuda_backend.h"
#include "lorikeet/data/validation_set.h"
#include "lorikeet/train/trainer.h"
#include "tests/train/layout_matrix.h"

namespace lorikeet {
namespace {

using namespace train_testing;
using ::testing::HasSubstr;

class Ranks : public RanksProgram {};
class SlowRanks : public RanksProgram {};

TEST_F(Ranks, OfEveryLayoutGiveTheLossesAndWeightsOfOneProcess) {
  const Settings settings =
      small_steps() + Settings{"train.batch_sequences=2", "evaluate.every=5steps"};
  finish("one", settings);
  const std::vector<std::pair<std::string, Layout>> layouts = {
      {"replicas", {2, 1, 0}}, {"zero1", {1, 2, 1}}, {"zero2", {1, 2, 2}}, {"zero3", {1, 2, 3}}};
  for (const auto& [name, layout] : layouts) {
    finish_ranks(name, layout, settings);
    expect_same_course("one", name);
  }
  EXPECT_THAT(metrics("zero3").front().dump(), HasSubstr("bytes_sent"));
  EXPECT_EQ(metrics("zero3").front().at("rank_seconds").size(), 2u);
}

/// Whose held-out contexts in micro-batches of 3 come out even over neither 2 nor 4 ranks.
std::string uneven_shards(const TemporaryFolder& folder) {
  using namespace data_testing;
  const std::string path = make_dataset(
      folder, make_lines(300, "news", 3) + make_lines(60, "code", 4), /*held_out=*/0.1);
  const Dataset dataset(path);
  const ValidationSet set(dataset, /*context_length=*/32, /*max_contexts=*/1000);
  EXPECT_EQ(set.num_domains(), 2u);
  for (size_t domain = 0; domain < set.num_domains(); ++domain) {
    const int64_t contexts = set.num_contexts(domain), batches = (contexts + 2) / 3;
    EXPECT_NE(contexts % 3, 0) << set.domain_name(domain) << ": " << contexts;
    EXPECT_EQ(batches % 2, 1) << set.domain_name(domain) << ": " << contexts;
    // news has some for every rank and more, code does not even have one for each of four
    EXPECT_EQ(batches < 4, set.domain_name(domain) == "code") << contexts;
  }
  return path;
}

/// A micro-batch a rank: its documents, and so its segments, are other ones and more or fewer than
/// the other ranks'.
TEST_F(Ranks, ValidateAsOneProcessWhateverIsLeftOverForTheLastRound) {
  const TemporaryFolder data;
  const Settings settings = {"data.shards=" + uneven_shards(data),
                             "model.feed_forward.segment_scope=document",
                             "model.feed_forward.first_segment=learned",
                             "train.steps=2",
                             "train.micro_batch=3",
                             "evaluate.every=1steps",
                             "evaluate.batches=1000"};
  const auto validations = [&](const std::string& name) {
    std::vector<Json> rows;
    for (const Json& row : metrics(name)) {
      if (row.contains("validation")) rows.push_back(row);
    }
    return rows;
  };
  for (const int size : {2, 4}) {
    const Settings all = settings + Settings{fmt::format("train.batch_sequences={}", 3 * size)};
    const std::string one = fmt::format("one_{}", size);
    finish(one, all);
    ASSERT_EQ(validations(one).size(), 2u);
    ASSERT_EQ(validations(one)[0].at("validation").size(), 3u) << "two domains and the mean";
    for (const Layout& layout : {Layout{size, 1, 0}, Layout{1, size, 3}}) {
      const std::string name = fmt::format("{}_{}", layout.replicate, layout.shard);
      finish_ranks(name, layout, all);
      expect_same_course(one, name);
      expect_same(validations(one), validations(name));
    }
  }
}

TEST_F(Ranks, MoveToAnyOtherLayoutAndGoOnAsOneRun) {
  const Settings settings =
      slow_steps() + small_steps() + Settings{"train.batch_sequences=2", "train.steps=30"};
  const Settings moving = settings + Settings{"checkpoint.local=" + (folder_ / "local")};
  finish("straight", settings);
  stop_ranks("moved", {1, 2, 3}, moving, 5, /*stopped_rank=*/1);
  stop_ranks("moved", {2, 1, 0}, moving, 12, /*stopped_rank=*/0);
  EXPECT_TRUE(std::filesystem::is_empty(folder_ / "local")) << "nobody used it, or left something";
  finish("moved", settings);
  expect_same_course("straight", "moved");
}

/// The ranks' clocks differ; what is due is not theirs to say.
TEST_F(Ranks, DoWhatIsDueByTimeTogether) {
  finish_ranks(
      "timed", {1, 2, 3},
      slow_steps() + Settings{"train.steps=60", "train.micro_batch=1", "train.batch_sequences=2",
                              "checkpoint.every=0.3s", "evaluate.every=0.2s", "log.every=0.1s"});
  int64_t logged = 0, validated = 0;
  for (const Json& row : metrics("timed")) {
    logged += row.contains("loss");
    validated += row.contains("validation");
  }
  EXPECT_GE(logged, 2);
  EXPECT_LT(logged, 60) << "not every step";
  EXPECT_GE(validated, 2) << "one at the end";
}

TEST_F(Ranks, EndWhenOneIsKilled) {
  std::deque<Child> ranks =
      start_ranks("killed", {1, 2, 3}, slow_steps() + Settings{"train.steps=100000"});
  ASSERT_TRUE(ranks[0].wait_until([&] { return logged_step("killed") >= 12; }));
  ranks[1].send(SIGKILL);
  const Ended ended = ranks[0].wait();
  EXPECT_EQ(ended.code, 6) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("another rank has died or is unreachable"));
  EXPECT_EQ(status("killed").at("state"), "failed");
}

TEST_F(Ranks, NameTheOneThatIsStuck) {
  std::deque<Child> ranks =
      start_ranks("stuck", {1, 3, 3},
                  slow_steps() + Settings{"train.steps=100000", "train.batch_sequences=6",
                                          "parallel.timeout=2s"});
  ASSERT_TRUE(ranks[0].wait_until([&] { return logged_step("stuck") >= 3; }));
  ranks[1].send(SIGSTOP);
  for (const int rank : {0, 2}) {
    const Ended ended = ranks[rank].wait();
    EXPECT_EQ(ended.code, 6) << ended.err;
    EXPECT_THAT(ended.err, HasSubstr("rank 1 has not come")) << ended.err;
  }
  ranks[1].send(SIGCONT);
}

TEST_F(Ranks, LeaveATraceOfEachRank) {
  finish_ranks("traced", {1, 2, 3},
               small_steps() + Settings{"log.trace_first=3", "log.trace_steps=2"});
  for (const char* trace : {"trace_rank_00000.json", "trace_rank_00001.json"}) {
    const Json events = Json::parse(read_text(file("traced", trace)));
    std::map<std::string, int> count;
    for (const Json& event : events) ++count[event.at("name").get<std::string>()];
    EXPECT_EQ(count["forward"], 4) << "two steps of two micro-batches";
    EXPECT_EQ(count["backward"], 4);
    EXPECT_EQ(count["optimizer"], 2);
    EXPECT_GE(count["wait layers.1"], 4) << "forward and backward wait for its parameters";
    EXPECT_EQ(count["reduce_scatter layers.1"], 4);
    EXPECT_GE(count["all_gather layers.0"], 8);
  }
}

/// Rank 0 hosts the store: nobody can be asked who is missing.
TEST_F(Ranks, EndThoughTheKeeperOfTheirMeetingPointIsStuck) {
  std::deque<Child> ranks = start_ranks(
      "keeper", {1, 2, 3}, slow_steps() + Settings{"train.steps=100000", "parallel.timeout=2s"});
  ASSERT_TRUE(ranks[0].wait_until([&] { return logged_step("keeper") >= 3; }));
  ranks[0].send(SIGSTOP);
  const auto begun = std::chrono::steady_clock::now();
  const auto is_over = [&] {
    return std::chrono::steady_clock::now() - begun > std::chrono::seconds(60);
  };
  ASSERT_FALSE(ranks[1].wait_until(is_over)) << "it still waits";
  const Ended ended = ranks[1].wait();
  EXPECT_EQ(ended.code, 6) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("meeting point does not answer"));
}

TEST_F(Ranks, RefuseARankWithAnotherConfiguration) {
  std::deque<Child> ranks = start_ranks("other", {2, 1, 0}, small_steps(), [](int rank) {
    return rank == 1 ? Settings{"schedule.peak=2e-2"} : Settings{};
  });
  for (Child& rank : ranks) {
    const Ended ended = rank.wait();
    EXPECT_EQ(ended.code, 2) << ended.err;
    EXPECT_THAT(ended.err, HasSubstr("the configuration of rank 1 is not that of rank 0"));
  }
}

/// The same path, on a node whose copy is another one.
TEST_F(Ranks, RefuseARankWithOtherData) {
  using namespace data_testing;
  for (const int rank : {0, 1}) {
    working_folders_[rank] = folder_ / fmt::format("node_{}", rank);
    const TemporaryFolder made;
    const std::string shards = make_dataset(made, make_lines(300, "news", 3 + rank), 0.1);
    std::filesystem::create_directory(working_folders_[rank]);
    std::filesystem::copy(shards, working_folders_[rank] + "/shards",
                          std::filesystem::copy_options::recursive);
  }
  for (Child& rank :
       start_ranks("data", {2, 1, 0}, small_steps() + Settings{"data.shards=shards"})) {
    const Ended ended = rank.wait();
    EXPECT_EQ(ended.code, 2) << ended.err;
    EXPECT_THAT(ended.err, HasSubstr("the data's fingerprint of rank 1 is not that of rank 0"));
  }
}

/// Each verifies some of the shards: rank 0 the only one here.
TEST_F(Ranks, RefuseDamagedDataTogether) {
  std::filesystem::copy(tiny_shards(), folder_ / "shards");
  const std::string shard = folder_ / "shards/shard_00000.tokens";
  std::string bytes = data_testing::read_text(shard);
  bytes[bytes.size() / 2] ^= 1;
  data_testing::write_text(shard, bytes);
  for (Child& rank : start_ranks("damaged", {2, 1, 0},
                                 small_steps() + Settings{"data.shards=" + folder_ / "shards"})) {
    const Ended ended = rank.wait();
    EXPECT_EQ(ended.code, 3) << ended.err;
    EXPECT_THAT(ended.err, HasSubstr("rank 0: " + shard));
  }
}

/// Two threads, since all programs of a build are of one version.
TEST_F(Ranks, RefuseARankOfAnotherVersion) {
  const int port = free_port();
  ::setenv("GLOO_SOCKET_IFNAME", "lo", 1);
  std::array<std::string, 2> said;
  const auto start = [&](int rank) {
    LaunchEnvironment environment;
    environment.rank = environment.local_rank = rank;
    environment.world_size = environment.local_world_size = 2;
    environment.master_address = "127.0.0.1";
    environment.master_port = port;
    const RunConfig config = load_run_config(
        config_, Settings{"name=version", "output=" + folder_.path(), "parallel.replicate=2"} +
                     small_steps());
    TrainerOptions options;
    options.world = World::meet(environment, config.parallel, torch::kCPU);
    options.code_version = rank == 0 ? "c405f22" : "2c9ac24";
    try {
      Trainer(config, options);
    } catch (const Error& error) {
      said[rank] = fmt::format("{}: {}", static_cast<int>(error.code()), error.what());
    }
    options.world->part(std::chrono::seconds(30));
  };
  std::thread other(start, 1);
  start(0);
  other.join();
  for (const std::string& what : said) {
    EXPECT_THAT(what, ::testing::StartsWith("2: "));
    EXPECT_THAT(what, HasSubstr("the version of lorikeet of rank 1 is not that of rank 0"));
  }
}

TEST_F(Ranks, RefuseALayoutOfAnotherSize) {
  std::deque<Child> ranks =
      start_ranks("size", {2, 1, 0},
                  small_steps() + Settings{"parallel.replicate=3", "train.batch_sequences=6"});
  for (Child& rank : ranks) {
    const Ended ended = rank.wait();
    EXPECT_EQ(ended.code, 2) << ended.err;
    EXPECT_THAT(ended.err, HasSubstr("are not the 2 ranks that were launched"));
  }
}

/// A few steps each.
TEST_F(SlowRanks, OfFourInAMatrixOfLayoutsAndModels) {
  const std::vector<Layout> layouts = {{4, 1, 0}, {1, 4, 1}, {1, 4, 2}, {1, 4, 3}, {2, 2, 3}};
  for (const auto& [model, settings] : models()) {
    const Settings all = small_steps() + settings + Settings{"train.steps=6"};
    finish(model, all);
    for (const Layout& layout : layouts) {
      const std::string name = name_of(model, layout);
      SCOPED_TRACE(name);
      finish_ranks(name, layout, all);
      if (layout.replicate > 1 && layout.shard > 1) {
        expect_near_course(model, name, model == "bf16" ? 2e-2 : 1e-5);
      } else {
        expect_same_course(model, name);
      }
    }
  }
}

/// The same over NCCL, of as many ranks as there are GPUs: two, four or eight.
class GpuRanks : public LayoutMatrix {};
TEST_F(GpuRanks, GiveTheLossesOfOneProcessOverNcclInEveryLayoutAndModel) {
  std::string why_not;
  if (!load_cuda_backend(&why_not)) GTEST_SKIP() << why_not;
  const size_t gpus = cuda_backend().devices.size();
  if (gpus < 2) GTEST_SKIP() << "needs two GPUs";
  expect_all_near_one_process(gpus >= 8 ? 8 : gpus >= 4 ? 4 : 2, {"train.device=cuda"});
}

/// One, four, two and one process: each goes on from what the one before has left.
TEST_F(SlowRanks, OfAnyNumberGoOnFromAnyOther) {
  const Settings settings =
      slow_steps() + small_steps() + Settings{"train.batch_sequences=4", "train.steps=40"};
  finish("straight", settings);
  stop_ranks("moved", {1, 1, 0}, settings, 5, /*stopped_rank=*/0);
  stop_ranks("moved", {1, 4, 3}, settings, 12, /*stopped_rank=*/2);
  stop_ranks("moved", {1, 2, 1}, settings, 20, /*stopped_rank=*/1);
  finish("moved", settings);
  expect_near_course("straight", "moved", 1e-5);
}

/// Two ranks with two micro-batches each: sums in another order.
TEST_F(SlowRanks, WithAccumulationStayWithinABound) {
  const Settings settings = small_steps() + Settings{"train.steps=8"};
  finish("one", settings);
  for (const Layout& layout :
       {Layout{2, 1, 0}, Layout{1, 2, 1}, Layout{1, 2, 2}, Layout{1, 2, 3}}) {
    const std::string name = fmt::format("two_{}_{}", layout.shard, layout.zero);
    finish_ranks(name, layout, settings);
    expect_near_course("one", name, 1e-5);
  }
}

}  // namespace
}  // namespace lorikeet
