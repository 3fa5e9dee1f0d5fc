#include "lorikeet/train/tensorboard.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <fstream>
#include <limits>

#include "lorikeet/core/file.h"
#include "lorikeet/core/log.h"
#include "tests/core/temporary_folder.h"
#include "tests/support/python.h"
#include "tests/support/source_dir.h"

namespace lorikeet {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using testing::quoted;
using testing::TemporaryFolder;

/// What TensorBoard reads from the folder; it must have nothing to complain about.
class TensorboardReadBack : public ::testing::Test {
 protected:
  void SetUp() override {
    python_ = testing::find_python("tensorboard");
    if (python_.empty()) GTEST_SKIP() << "no Python with the tensorboard package was found";
  }
  std::string read(const std::string& folder) const {
    const std::string script = std::string(kSourceDir) + "/tests/train/read_tensorboard.py";
    const std::string out = folder_ / "out", err = folder_ / "err";
    const std::string command = quoted(python_) + " " + quoted(script) + " " + quoted(folder) +
                                " >" + quoted(out) + " 2>" + quoted(err);
    EXPECT_EQ(std::system(command.c_str()), 0) << read_text_file(err, ExitCode::kInternal);
    EXPECT_THAT(read_text_file(err, ExitCode::kInternal), Not(HasSubstr("corrupt")));
    return read_text_file(out, ExitCode::kInternal);
  }

  TemporaryFolder folder_;
  std::string python_;
};

TEST_F(TensorboardReadBack, FindsTagsStepsValuesAndTimes) {
  const std::string folder = folder_ / "run/tensorboard";
  TensorboardWriter writer(folder);
  writer.scalar("train/loss", 10.5, 1, 1700000000.25);
  writer.scalar("train/loss", -0.1, 3'000'000'000, 1700000001.5);
  writer.scalar("validation/ünicode " + std::string(300, 'x'), 0, 0, 1700000002);
  // Read while the writer lives: nothing waits in a buffer. 0.1 is a float in the format.
  EXPECT_EQ(read(folder),
            "train/loss 1 10.5 1700000000.25\n"
            "train/loss 3000000000 -0.10000000149011612 1700000001.5\n"
            "validation/ünicode " +
                std::string(300, 'x') + " 0 0.0 1700000002.0\n");
}

TEST_F(TensorboardReadBack, LosesThePointsAfterTheResumedStep) {
  const std::string folder = folder_ / "tensorboard";
  for (const int64_t first : {0, 3, 4}) {  // three sessions, within one second
    TensorboardWriter writer(folder, first);
    for (int64_t step = first; step < first + 3; ++step) {
      writer.scalar("loss", static_cast<double>(100 * first + step), step, 1700000000);
    }
  }
  TensorboardWriter last(folder, 5);
  last.scalar("loss", 7, 5, 1700000000);
  EXPECT_EQ(folder_.list(folder).size(), 4u);
  EXPECT_EQ(read(folder),
            "loss 0 0.0 1700000000.0\nloss 1 1.0 1700000000.0\n"
            "loss 2 2.0 1700000000.0\nloss 3 303.0 1700000000.0\n"
            "loss 4 404.0 1700000000.0\nloss 5 7.0 1700000000.0\n");
}

TEST_F(TensorboardReadBack, HoldsManyPointsAndOddNumbers) {
  const std::string folder = folder_ / "tensorboard";
  TensorboardWriter writer(folder);
  std::string expected;
  for (int64_t step = 0; step < 2000; ++step) {
    writer.scalar("x", static_cast<double>(step) / 4, step, 5);
    const std::string value = fmt::format("{:.2f}", static_cast<double>(step) / 4);
    expected +=
        fmt::format("x {} {} 5.0\n", step, value.substr(0, value.size() - (value.back() == '0')));
  }
  writer.scalar("y", std::numeric_limits<double>::quiet_NaN(), 1, 5);
  writer.scalar("y", std::numeric_limits<double>::infinity(), 2, 5);
  EXPECT_EQ(read(folder), expected + "y 1 nan 5.0\ny 2 inf 5.0\n");
}

TEST(TensorboardWriter, WritesTheFirstRecordAsTensorFlowDoes) {
  const TemporaryFolder folder;
  const TensorboardWriter writer(folder / "tensorboard");
  const std::string data = read_text_file(writer.path(), ExitCode::kInternal);
  // The first 13 bytes of every TensorFlow event file: 24 bytes follow, the masked checksum of that
  // number, and the tag of the wall time (9 bytes); then the file version (2 + 13 bytes).
  ASSERT_GT(data.size(), 40u);
  EXPECT_EQ(data.substr(0, 13), std::string("\x18\0\0\0\0\0\0\0\xa3\x7fK\"\t", 13));
  EXPECT_EQ(data.substr(21, 15),
            "\x1a\x0d"
            "brain.Event:2");
}

TEST(TensorboardWriter, WarnsOnceAndGoesOnWhereItCannotWrite) {
  const TemporaryFolder folder;
  std::ofstream(folder / "tensorboard") << "a file in the way";
  open_log_file(folder / "log");
  TensorboardWriter writer(folder / "tensorboard");
  for (int64_t step = 0; step < 5; ++step) writer.scalar("loss", 1, step);
  const std::string log = read_text_file(folder / "log", ExitCode::kInternal);
  ASSERT_THAT(log, HasSubstr("no more TensorBoard curves"));
  EXPECT_EQ(log.find("no more TensorBoard"), log.rfind("no more TensorBoard"));
}

}  // namespace
}  // namespace lorikeet
