#include "lorikeet/parallel/watchdog.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <future>

#include "tests/parallel/ranks.h"

namespace lorikeet {
namespace {

using std::chrono::milliseconds;

/// Does not answer until it is released, as a store whose host is stopped.
class SilentStore : public c10d::HashStore {
 public:
  void set(const std::string&, const std::vector<uint8_t>&) override { released_.wait(); }
  bool check(const std::vector<std::string>&) override {
    released_.wait();
    return false;
  }
  void release() { release_.set_value(); }

 private:
  std::promise<void> release_;
  std::shared_future<void> released_ = release_.get_future().share();
};

TEST(Watchdog, NamesTheRankThatIsMissingAndTheCollective) {
  run_ranks(3, [&](int rank, const auto& store) {
    const auto mesh = make_mesh(store, rank, {3, 1});
    std::promise<std::string> stuck;
    auto said = stuck.get_future();
    const Watchdog watchdog(
        mesh->monitor(), [&] { return store; }, rank, 3, milliseconds(300),
        [&](const std::string& message) { stuck.set_value(message); });
    at::Tensor tensor = at::ones({10});
    mesh->world().all_reduce(tensor, "the first");
    if (rank == 1) {  // comes late
      EXPECT_EQ(said.wait_for(milliseconds(1500)), std::future_status::timeout);
      mesh->world().all_reduce(tensor, "layers.3");
      return;
    }
    mesh->world().all_reduce(tensor, "layers.3");
    const std::string message = said.get();
    EXPECT_NE(message.find("in all_reduce of layers.3 (number 2 of group world)"),
              std::string::npos)
        << message;
    EXPECT_NE(message.find("rank 1 has not come (its latest: number 1, all_reduce of the first)"),
              std::string::npos)
        << message;
  });
}

TEST(Watchdog, IsQuietWhileWorkGoesOn) {
  run_ranks(2, [&](int rank, const auto& store) {
    const auto mesh = make_mesh(store, rank, {2, 1});
    std::atomic<bool> is_stuck{false};
    const Watchdog watchdog(
        mesh->monitor(), [&] { return store; }, rank, 2, milliseconds(1000),
        [&](const std::string&) { is_stuck = true; });
    at::Tensor tensor = at::ones({10});
    for (int i = 0; i < 50; ++i) {
      std::this_thread::sleep_for(milliseconds(40));
      mesh->world().all_reduce(tensor, "again");
    }
    EXPECT_FALSE(is_stuck);
  });
}

TEST(Watchdog, TellsTheOthersWhatItHasFound) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  CollectiveMonitor waiting, working;
  std::promise<std::string> stuck;
  auto said = stuck.get_future();
  const CollectiveMonitor::Scope scope(waiting, "world", "all_reduce", "layers.3", 0);
  const Watchdog finder(
      waiting, [&] { return store; }, 0, 2, milliseconds(100),
      [&](const std::string& message) { stuck.set_value(message); });
  const Watchdog other(
      working, [&] { return store; }, 1, 2, std::chrono::seconds(60), [](const std::string&) {});
  const std::string found = said.get();
  EXPECT_NE(found.find("rank 1 has not come"), std::string::npos) << found;
  EXPECT_EQ(working.explain_failure(), found);
}

TEST(Watchdog, NamesTheCollectiveThoughTheStoreIsSilent) {
  const auto store = c10::make_intrusive<SilentStore>();
  CollectiveMonitor monitor;
  std::promise<std::string> stuck;
  auto said = stuck.get_future();
  const CollectiveMonitor::Scope scope(monitor, "world", "all_reduce", "layers.3", 0);
  {
    const Watchdog watchdog(
        monitor, [&] { return store; }, 1, 2, milliseconds(100),
        [&](const std::string& message) { stuck.set_value(message); });
    ASSERT_EQ(said.wait_for(std::chrono::seconds(20)), std::future_status::ready);
    const std::string message = said.get();
    EXPECT_NE(message.find("in all_reduce of layers.3"), std::string::npos) << message;
    EXPECT_NE(message.find("meeting point does not answer"), std::string::npos) << message;
  }  // ends although an operation on the store does not
  store->release();
}

TEST(Watchdog, FindsASilentStoreOutsideOfCollectives) {
  const auto store = c10::make_intrusive<SilentStore>();
  CollectiveMonitor monitor;
  std::promise<std::string> stuck;
  auto said = stuck.get_future();
  const Watchdog watchdog(
      monitor, [&] { return store; }, 1, 2, milliseconds(100),
      [&](const std::string& message) { stuck.set_value(message); });
  ASSERT_EQ(said.wait_for(std::chrono::seconds(20)), std::future_status::ready);
  const std::string message = said.get();
  EXPECT_NE(message.find("meeting point has not answered"), std::string::npos) << message;
  store->release();
}

}  // namespace
}  // namespace lorikeet
