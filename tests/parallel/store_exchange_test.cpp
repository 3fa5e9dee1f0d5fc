#include "lorikeet/parallel/store_exchange.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <thread>
#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <vector>

#include "lorikeet/core/error.h"
#include "lorikeet/parallel/watchdog.h"

namespace lorikeet {
namespace {

using std::chrono::milliseconds, std::chrono::seconds, std::chrono::steady_clock;

TEST(StoreExchange, GivesUpARankThatShowsNoLife) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  StoreExchange exchange(store, "save", 0, 2, /*timeout=*/seconds(600),
                         /*silence=*/milliseconds(200));
  const auto begun = steady_clock::now();
  try {
    exchange.gather("mine");
    FAIL() << "rank 1 has never come";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kCommunication);
    EXPECT_NE(std::string(error.what()).find("rank 0 waited for rank 1"), std::string::npos)
        << error.what();
  }
  EXPECT_LT(steady_clock::now() - begun, seconds(300));
}

TEST(StoreExchange, WaitsForASlowRankThatIsAlive) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  std::thread slow([&] {
    CollectiveMonitor monitor;
    const Watchdog watchdog(
        monitor, [&] { return store; }, 1, 2, seconds(2),
        [](const std::string& message) { ADD_FAILURE() << message; });
    std::this_thread::sleep_for(seconds(6));  // writes its part
    StoreExchange(store, "save", 1, 2, seconds(600)).gather("theirs");
  });
  StoreExchange exchange(store, "save", 0, 2, seconds(600), /*silence=*/seconds(2));
  EXPECT_EQ(exchange.gather("mine"), (std::vector<std::string>{"mine", "theirs"}));
  slow.join();
}

}  // namespace
}  // namespace lorikeet
