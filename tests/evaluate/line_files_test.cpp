#include "lorikeet/evaluate/line_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <iostream>
#include <sstream>

#include "tests/core/temporary_folder.h"

namespace lorikeet {
namespace {

using ::testing::HasSubstr;

/// Standard input and output held in strings.
class StandardStreams {
 public:
  explicit StandardStreams(const std::string& input) : in_(input) {
    std::cin.rdbuf(in_.rdbuf());
    std::cout.rdbuf(out_.rdbuf());
  }
  ~StandardStreams() {
    std::cin.rdbuf(old_in_);
    std::cin.clear();
    std::cout.rdbuf(old_out_);
    std::cout.clear();
  }
  std::string written() const { return out_.str(); }

 private:
  std::istringstream in_;
  std::ostringstream out_;
  std::streambuf* old_in_ = std::cin.rdbuf();
  std::streambuf* old_out_ = std::cout.rdbuf();
};

class LineFilesTest : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return folder_.path() + "/" + name; }
  std::string write(const std::string& text) const {
    write_file_atomically(path("in"), text, ExitCode::kData);
    return path("in");
  }
  std::string error(ExitCode code, const std::string& input, const std::string& output) const {
    return testing::error_of(code, [&] { LineFiles(input, output); });
  }
  testing::TemporaryFolder folder_;
};

TEST_F(LineFilesTest, OutputAppearsAtCommit) {
  LineFiles files(write("a\nb"), path("out"));
  std::string line;
  while (files.read(line)) files.write(line + ";");
  EXPECT_EQ(files.position(), path("in") + ":2");
  EXPECT_FALSE(std::filesystem::exists(path("out")));
  files.commit();
  EXPECT_EQ(read_text_file(path("out"), ExitCode::kData), "a;b;");
}

TEST_F(LineFilesTest, ADashIsAStandardStreamAndWritesAtOnce) {
  const StandardStreams standard("a\nb\nc\n");
  LineFiles files("-", "-");
  std::string line;
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(files.read(line));
  EXPECT_EQ(line, "c");
  EXPECT_EQ(files.position(), "<stdin>:3");
  files.write("x\n");
  EXPECT_EQ(standard.written(), "x\n");
  EXPECT_FALSE(files.read(line));
  files.commit();
  EXPECT_FALSE(std::filesystem::exists("-"));
}

TEST_F(LineFilesTest, AStandardOutputThatTakesNothingIsAnError) {
  const StandardStreams standard("");
  LineFiles files("-", "-");
  std::cout.setstate(std::ios::badbit);
  const std::string message = testing::error_of(ExitCode::kData, [&] { files.write("x\n"); });
  EXPECT_THAT(message, HasSubstr("<stdout>: could not be written\nhint: check"));
}

TEST_F(LineFilesTest, WrongPathsShowWhenOpened) {
  EXPECT_THAT(error(ExitCode::kData, path("no"), path("out")),
              HasSubstr("no: cannot be opened: No such file or directory\nhint: check"));
  EXPECT_THAT(error(ExitCode::kData, folder_.path(), path("out")),
              HasSubstr("is a folder, a file is needed\nhint: give"));
  const std::string input = write("a\n");
  EXPECT_THAT(error(ExitCode::kData, input, path("no/out")),
              HasSubstr("no/out: cannot write: No such file or directory\nhint: check"));
  EXPECT_THAT(error(ExitCode::kUsage, input, input), HasSubstr("is the input and the output"));
  EXPECT_EQ(read_text_file(input, ExitCode::kData), "a\n");
}

TEST_F(LineFilesTest, NothingIsLeftWithoutACommit) {
  { LineFiles("-", path("out")).write("x"); }
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
}

}  // namespace
}  // namespace lorikeet
