#include "lorikeet/core/progress.h"

#include <gtest/gtest.h>

namespace lorikeet {
namespace {

TEST(Progress, LineShowsLabelPercentDetailAndTimeLeft) {
  EXPECT_EQ(progress_line("tokenize", 0.42, "10 MB/s", 185), "tokenize  42%  10 MB/s  3:05 left");
  EXPECT_EQ(progress_line("tokenize", -1, "10 MB/s", -1), "tokenize  10 MB/s");
  EXPECT_EQ(progress_line("x", 1.5, "", 0), "x 100%  0:00 left");
}

TEST(Progress, ClockTimeHasHoursOnlyWhereNeeded) {
  EXPECT_EQ(clock_time(59.9), "0:59");
  EXPECT_EQ(clock_time(3599), "59:59");
  EXPECT_EQ(clock_time(3725), "1:02:05");
  EXPECT_EQ(clock_time(1e30), "1000000:00:00");
}

TEST(Progress, IsQuietAtFirstWhereStandardErrorIsNoTerminal) {
  ::testing::internal::CaptureStderr();
  {
    ProgressBar bar("tokenize", 100);
    bar.update(50, [] { return "10 MB/s"; });
  }
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace lorikeet
