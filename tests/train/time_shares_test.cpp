#include "lorikeet/train/time_shares.h"

#include <gtest/gtest.h>

#include <thread>

namespace lorikeet {
namespace {

TEST(TimeShares, StepsAndValidationAreWorkAndAllElseIsNot) {
  TimeShares times;
  EXPECT_EQ(times.stall_share(), 0);
  times.add(TimeShares::kSteps, 60);
  times.add(TimeShares::kSteps, 30);
  times.add(TimeShares::kValidation, 8);
  times.add("waiting for data", 0.5);
  times.add("checkpoints", 1.5);
  EXPECT_NEAR(times.stall_share(), 0.02, 1e-12);
  EXPECT_EQ(times.to_text(),
            "steps 90.00%, validation 8.00%, checkpoints 1.50%, waiting for data 0.50%");
}

TEST(TimeShares, MeasuresWork) {
  TimeShares times;
  times.measure("log", [] { std::this_thread::sleep_for(std::chrono::milliseconds(20)); });
  EXPECT_EQ(times.stall_share(), 1);
  EXPECT_EQ(times.to_text(), "log 100.00%");
}

}  // namespace
}  // namespace lorikeet
