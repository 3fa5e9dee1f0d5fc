// Several ranks save and load one checkpoint together.
#include <gmock/gmock.h>

#include <atomic>
#include <filesystem>

#include "lorikeet/core/log.h"
#include "lorikeet/storage/safetensors.h"
#include "tests/checkpoint/file_size_limit.h"
#include "tests/checkpoint/ranks.h"

namespace lorikeet {
namespace {

using namespace lorikeet::testing;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;
using Ranks = std::shared_ptr<Exchange>;
using Messages = std::vector<std::string>;

std::string file_of_rank(int rank) { return fmt::format("tensors_rank_{:05}.safetensors", rank); }

/// Tensors of several dtypes and sizes, also smaller than the number of ranks.
CheckpointContent mixed_content(int64_t step) {
  CheckpointContent content = make_content(step, 1000);
  const torch::Tensor values = torch::arange(105).to(torch::kFloat) + static_cast<double>(step);
  content.tensors.push_back(whole_piece("experts", values.view({3, 5, 7})));
  content.tensors.push_back(
      whole_piece("half", values.slice(0, 0, 36).view({6, 6}).t().to(torch::kBFloat16)));
  content.tensors.push_back(whole_piece("long", torch::arange(9)));
  content.tensors.push_back(whole_piece("empty", torch::empty({0, 4})));
  return content;
}

/// Loads what rank `ranks` of any number holds of each tensor, and nothing that it need not.
void expect_share(const CheckpointContent& whole, CheckpointStore& store, const Ranks& ranks) {
  const int rank = ranks->rank(), size = ranks->size();
  std::map<std::string, int64_t> numel;
  for (const TensorPiece& piece : whole.tensors) numel[piece.name] = piece.values.numel();
  const auto is_wanted = [&](const CheckpointContent&, const std::string& name, int64_t begin,
                             int64_t count) {
    return begin < first_of(rank + 1, size, numel.at(name)) &&
           begin + count > first_of(rank, size, numel.at(name));
  };
  const auto loaded = store.load_newest(is_wanted);
  ASSERT_TRUE(loaded.has_value());
  EXPECT_EQ(loaded->step, whole.step);
  for (const TensorPiece& piece : loaded->tensors) {
    EXPECT_TRUE(is_wanted(*loaded, piece.name, piece.begin, piece.values.numel())) << piece.name;
  }
  for (const TensorPiece& piece : whole.tensors) {
    const int64_t begin = first_of(rank, size, piece.values.numel());
    const int64_t end = first_of(rank + 1, size, piece.values.numel());
    if (begin == end) continue;
    const torch::Tensor mine = torch::empty({end - begin}, piece.values.options());
    copy_range(*loaded, piece.name, piece.shape, begin, mine);
    EXPECT_TRUE(torch::equal(mine, piece.values.reshape({-1}).slice(0, begin, end))) << piece.name;
  }
}

TEST(CheckpointRanks, AnyNumberLoadsWhatAnyOtherSaved) {
  const CheckpointContent whole = mixed_content(7);
  for (const int saved_by : {1, 2, 4}) {
    const TemporaryFolder folder;
    ASSERT_THAT(save_on_ranks(folder / "run", saved_by, whole), Each(IsEmpty()));
    for (const int loaded_by : {1, 2, 3, 4, 5}) {
      EXPECT_THAT(on_ranks(loaded_by,
                           [&](const Ranks& ranks) {
                             CheckpointStore store(folder / "run", keep(9), ranks, quick_retry());
                             expect_share(whole, store, ranks);
                           }),
                  Each(IsEmpty()));
    }
    const CheckpointContent loaded =
        CheckpointStore::load(folder / "run/checkpoints/step_00000007");
    expect_equal(loaded, whole);
    EXPECT_EQ(loaded.world_size, saved_by);
  }
}

TEST(CheckpointRanks, EachWritesOneFileWithItsPiecesOnly) {
  const TemporaryFolder folder;
  ASSERT_THAT(save_on_ranks(folder / "run", 4, mixed_content(7)), Each(IsEmpty()));
  const std::string path = folder / "run/checkpoints/step_00000007/";
  EXPECT_THAT(folder.list(path), ElementsAre("manifest.json", "state.json", file_of_rank(0),
                                             file_of_rank(1), file_of_rank(2), file_of_rank(3)));
  const SafetensorsFile file(path + file_of_rank(2));
  // 105 experts' elements: 52 to 77; the one step is the last rank's.
  EXPECT_THAT(file.names(),
              ElementsAre("empty", "experts@52", "half@18", "long@4", "model.weight@500", "rng@5"));
  EXPECT_EQ(to_string(file.info("experts@52")), "F32 [26]");
  EXPECT_EQ(to_string(SafetensorsFile(path + file_of_rank(3)).info("optimizer.step.weight")),
            "F32 []");
}

TEST(CheckpointRanks, MayEachHoldWholeTensorsAndSeveralPieces) {
  const TemporaryFolder folder;
  const torch::Tensor a = torch::randn({4, 3}), b = torch::randn({5});
  EXPECT_THAT(on_ranks(2,
                       [&](const Ranks& ranks) {
                         CheckpointContent content = make_content(1);
                         content.tensors.clear();
                         if (ranks->rank() == 0) {
                           content.tensors.push_back({"a", {4, 3}, 9, a.slice(0, 3)});
                           content.tensors.push_back({"a", {4, 3}, 0, a.slice(0, 0, 1)});
                         } else {
                           content.tensors.push_back({"a", {4, 3}, 3, a.slice(0, 1, 3)});
                           content.tensors.push_back(whole_piece("b", b));
                           content.tensors.push_back({"a", {4, 3}, 5, torch::empty({0})});
                         }
                         CheckpointStore(folder / "run", keep(1), ranks).save(content);
                       }),
              Each(IsEmpty()));
  const CheckpointContent loaded = CheckpointStore::load(folder / "run/checkpoints/step_00000001");
  EXPECT_TRUE(torch::equal(whole_tensor(loaded, "a"), a));
  EXPECT_TRUE(torch::equal(whole_tensor(loaded, "b"), b));
  EXPECT_EQ(loaded.tensors.size(), 4u);
}

TEST(CheckpointRanks, SaveInTheBackgroundWhatWasThereAtTheCall) {
  const TemporaryFolder folder;
  EXPECT_THAT(on_ranks(3,
                       [&](const Ranks& ranks) {
                         CheckpointStore store(folder / "run", keep(2), ranks, quick_retry());
                         for (const int64_t step : {1, 2, 3, 4}) {
                           CheckpointContent content =
                               share_of(mixed_content(step), ranks->rank(), 3);
                           for (TensorPiece& piece : content.tensors)
                             piece.values = piece.values.clone();
                           content.tensors[0].values.fill_(static_cast<double>(step));
                           store.save_in_background(content);
                           content.tensors[0].values.fill_(-1);  // training goes on in place
                         }
                         store.wait();
                         EXPECT_FALSE(store.take_error().has_value());
                       }),
              Each(IsEmpty()));
  CheckpointStore store(folder / "run", keep(2), one_rank());
  EXPECT_EQ(store.list(), (std::vector<int64_t>{4, 3}));
  EXPECT_EQ(folder.list(folder / "run/checkpoints").size(), 2u);
  for (const int64_t step : store.list()) {
    EXPECT_TRUE(whole_tensor(store.load(step), "model.weight")
                    .eq(static_cast<double>(step))
                    .all()
                    .item<bool>());
  }
}

/// Pieces that are wrong together: how each rank's content is spoilt, and what is said.
TEST(CheckpointRanks, RefusePiecesThatDoNotMakeUpTheirTensors) {
  const TemporaryFolder folder;
  const auto refusal = [&](const std::function<void(int rank, TensorPiece&)>& spoil) {
    const Messages messages = on_ranks(3, [&](const Ranks& ranks) {
      CheckpointContent share = share_of(mixed_content(1), ranks->rank(), 3);
      spoil(ranks->rank(), share.tensors[0]);  // model.weight: 1000 elements, cut at 333 and 666
      CheckpointStore(folder / "run", keep(1), ranks, quick_retry()).save(share);
    });
    EXPECT_THAT(messages, Each(messages[0])) << "the ranks differ";
    EXPECT_THAT(messages[0], StartsWith("1: "));
    EXPECT_THAT(folder.list(folder / "run/checkpoints"), IsEmpty());
    return messages[0];
  };
  EXPECT_THAT(refusal([](int rank, TensorPiece& piece) {
                if (rank == 1) piece.values = piece.values.slice(0, 0, 300);
              }),
              AllOf(HasSubstr("'model.weight' F32 [1000]"),
                    HasSubstr("elements 633 to 665 are in no rank's piece")));
  EXPECT_THAT(refusal([](int rank, TensorPiece& piece) {
                if (rank == 2) piece.values = piece.values.slice(0, 0, 300);
              }),
              HasSubstr("elements 966 to 999 are in no rank's piece"));
  EXPECT_THAT(refusal([](int rank, TensorPiece& piece) {
                if (rank == 1) piece.begin = 300;
              }),
              AllOf(HasSubstr("element 300 is in two pieces"), HasSubstr(file_of_rank(0)),
                    HasSubstr(file_of_rank(1))));
  EXPECT_THAT(refusal([](int rank, TensorPiece& piece) {
                if (rank == 1) piece.begin = 700;
              }),
              AllOf(HasSubstr("rank 1: "), HasSubstr("elements 700 to 1032 are given")));
  EXPECT_THAT(refusal([](int rank, TensorPiece& piece) {
                if (rank == 2) piece.shape = {500, 2};
              }),
              AllOf(HasSubstr("is F32 [1000] in " + file_of_rank(0)),
                    HasSubstr("F32 [500, 2] in " + file_of_rank(2))));
  EXPECT_THAT(refusal([](int rank, TensorPiece& piece) {
                if (rank == 2) piece.values = piece.values.to(torch::kDouble);
              }),
              HasSubstr("F64 [1000] in " + file_of_rank(2)));
  EXPECT_THAT(refusal([](int rank, TensorPiece& piece) {
                if (rank == 1) piece.values = torch::Tensor();
              }),
              AllOf(HasSubstr("rank 1: "), HasSubstr("'model.weight' is undefined")));
}

TEST(CheckpointRanks, RefuseToSaveDifferentSteps) {
  const TemporaryFolder folder;
  const Messages messages = on_ranks(2, [&](const Ranks& ranks) {
    const CheckpointContent content = mixed_content(10 + ranks->rank());
    CheckpointStore(folder / "run", keep(1), ranks).save(share_of(content, ranks->rank(), 2));
  });
  EXPECT_THAT(messages, Each(AllOf(StartsWith("1: "), HasSubstr("rank 0 at 'saving step 10:"),
                                   HasSubstr("rank 1 at 'saving step 11:"))));
}

TEST(CheckpointRanks, SayWhichOfThemDoesNotSeeTheFolder) {
  const TemporaryFolder folder;
  const Messages messages = on_ranks(3, [&](const Ranks& ranks) {
    const std::string run = folder / (ranks->rank() == 1 ? "other_node" : "run");
    CheckpointStore store(run, keep(1), ranks, quick_retry());
    store.save(share_of(mixed_content(1), ranks->rank(), 3));
  });
  EXPECT_THAT(messages, Each(AllOf(StartsWith("4: rank 1: "), HasSubstr("other_node"),
                                   HasSubstr("is not there"), HasSubstr("all nodes share"))));
  EXPECT_THAT(folder.list(folder / "run/checkpoints"), IsEmpty());
}

/// Rank 2 has more to write than a file may hold.
CheckpointContent uneven_share(int64_t step, int rank) {
  constexpr int64_t kSmall = 1000, kLarge = 1 << 19;
  CheckpointContent content = make_content(step);
  content.tensors = {{"w", {2 * kSmall + kLarge}, rank * kSmall, torch::Tensor()}};
  content.tensors[0].values = torch::full({rank == 2 ? kLarge : kSmall}, rank, torch::kFloat);
  return content;
}

TEST(CheckpointRanks, AllReportThatOnesDiskIsFull) {
  const TemporaryFolder folder;
  ASSERT_THAT(save_on_ranks(folder / "run", 3, make_content(1)), Each(IsEmpty()));
  const FileSizeLimit limit(1 << 20);
  const Messages messages = on_ranks(3, [&](const Ranks& ranks) {
    CheckpointStore store(folder / "run", keep(1), ranks, quick_retry());
    store.save_in_background(uneven_share(2, ranks->rank()));
    store.wait();
    const auto error = store.take_error();
    EXPECT_TRUE(error.has_value()) << ranks->rank();
    if (error) throw *error;
  });
  EXPECT_THAT(messages, Each(AllOf(StartsWith("4: rank 2: "), HasSubstr(file_of_rank(2)),
                                   HasSubstr("needs 2,"), Not(HasSubstr("ranks failed")))));
  EXPECT_THAT(folder.list(folder / "run/checkpoints"), ElementsAre("step_00000001"));
  expect_equal(CheckpointStore::load(folder / "run/checkpoints/step_00000001"), make_content(1));
}

TEST(CheckpointRanks, TryAgainTogetherWhileOnesDiskRecovers) {
  const TemporaryFolder folder;
  auto limit = std::make_unique<FileSizeLimit>(1 << 20);
  open_log_file(folder / "log");
  std::thread recovery([&] {
    while (read_file(folder / "log").find("attempt 3 of") == std::string::npos) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    limit.reset();
  });
  EXPECT_THAT(on_ranks(3,
                       [&](const Ranks& ranks) {
                         CheckpointStore store(folder / "run", keep(1), ranks,
                                               {.attempts = 1000, .pause_seconds = 0.02});
                         store.save_in_background(uneven_share(2, ranks->rank()));
                         store.wait();
                         EXPECT_FALSE(store.take_error().has_value());
                       }),
              Each(IsEmpty()));
  recovery.join();
  const CheckpointContent loaded = CheckpointStore::load(folder / "run/checkpoints/step_00000002");
  EXPECT_EQ(whole_tensor(loaded, "w").sum().item<double>(), 1000 + 2 * (1 << 19));
  const std::string log = read_file(folder / "log"), warning = "attempt 1 of 1000";
  EXPECT_EQ(log.find(warning), log.rfind(warning)) << "one rank speaks for all";
}

TEST(CheckpointRanks, NoticeDamageInWhatTheyReadAndOnlyThere) {
  const TemporaryFolder folder;
  const std::string path = folder / "run/checkpoints/step_00000007";
  ASSERT_THAT(save_on_ranks(folder / "run", 4, mixed_content(7)), Each(IsEmpty()));
  const std::string name = path + "/" + file_of_rank(1), original = read_file(name);
  const size_t num_pieces = CheckpointStore::load(path).tensors.size();
  const SafetensorsFile file(name);
  std::string damaged = original;
  damaged[file.info("experts@26").offset + 5] ^= 1;
  overwrite_file(name, damaged);
  EXPECT_THAT(error_of(ExitCode::kCheckpoint, [&] { CheckpointStore::load(path); }),
              AllOf(HasSubstr(name), HasSubstr("'experts@26'"), HasSubstr("checksum is")));
  const auto others = [](const CheckpointContent&, const std::string& tensor, int64_t begin,
                         int64_t numel) {
    return tensor != "experts" || begin != 26 || numel != 26;
  };
  const CheckpointContent rest = CheckpointStore::load(path, others);
  EXPECT_EQ(rest.tensors.size(), num_pieces - 1);
}

TEST(CheckpointRanks, FallBackTogetherWithOneWarning) {
  const TemporaryFolder folder;
  for (const int64_t step : {5, 6, 7}) {
    ASSERT_THAT(save_on_ranks(folder / "run", 4, mixed_content(step)), Each(IsEmpty()));
  }
  const std::string checkpoints = folder / "run/checkpoints/";
  std::filesystem::remove(checkpoints + "step_00000007/" + file_of_rank(2));
  const std::string name = checkpoints + "step_00000006/" + file_of_rank(3);
  std::string damaged = read_file(name);
  damaged.back() ^= 1;  // of rng: only the last rank looks there
  overwrite_file(name, damaged);
  open_log_file(folder / "log");
  EXPECT_THAT(on_ranks(3,
                       [&](const Ranks& ranks) {
                         CheckpointStore store(folder / "run", keep(9), ranks);
                         for (int time = 0; time < 2; ++time) {
                           expect_share(mixed_content(5), store, ranks);
                         }
                       }),
              Each(IsEmpty()));
  const std::string log = read_file(folder / "log");
  for (const std::string warning :
       {"step 7 is passed over: rank 0: ", "step 6 is passed over: rank 2: "}) {
    ASSERT_THAT(log, HasSubstr(warning));
    EXPECT_EQ(log.find(warning), log.rfind(warning)) << log;
  }
}

TEST(CheckpointRanks, WithOneThatDoesNotAnswerEndInTimeWithItsNumber) {
  const TemporaryFolder folder;
  const auto start = std::chrono::steady_clock::now();
  const Messages messages = on_ranks(
      3,
      [&](const Ranks& ranks) {
        if (ranks->rank() == 1) return;
        CheckpointStore store(folder / "run", keep(1), ranks, quick_retry());
        store.save_in_background(share_of(mixed_content(1), ranks->rank(), 3));
        store.wait();
        const auto error = store.take_error();
        ASSERT_TRUE(error.has_value());
        throw *error;
      },
      /*timeout_seconds=*/0.3);
  EXPECT_THAT(messages[0], AllOf(StartsWith("1: "), HasSubstr("rank 1 did not answer")));
  EXPECT_THAT(messages[2], messages[0]);
  EXPECT_FALSE(std::filesystem::exists(folder / "run/checkpoints/step_00000001"));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

TEST(CheckpointRanks, LeaveWhatCameLaterToRankZeroToDelete) {
  const TemporaryFolder folder;
  for (const int64_t step : {1, 2}) {
    ASSERT_THAT(save_on_ranks(folder / "run", 2, mixed_content(step)), Each(IsEmpty()));
  }
  const std::shared_ptr<Exchange> second = std::make_shared<FolderExchange>(folder.path(), 1, 2);
  CheckpointStore(folder / "run", keep(9), second).discard_after(1);
  EXPECT_EQ(folder.list(folder / "run/checkpoints").size(), 2u);
  const std::shared_ptr<Exchange> first = std::make_shared<FolderExchange>(folder.path(), 0, 2);
  CheckpointStore(folder / "run", keep(9), first).discard_after(1);
  EXPECT_THAT(folder.list(folder / "run/checkpoints"), ElementsAre("step_00000001"));
}

}  // namespace
}  // namespace lorikeet
