#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "lorikeet/storage/safetensors.h"
#include "tests/core/temporary_folder.h"
#include "tests/storage/raw_file.h"

namespace lorikeet {
namespace {

using ::testing::HasSubstr;
using testing::raw_safetensors;
using testing::TemporaryFolder;

/// The error of opening a file with these bytes.
std::string error_of_bytes(const std::string& bytes, const std::string& name = "a.safetensors") {
  const TemporaryFolder folder;
  const std::string path = testing::write_raw(folder / name, bytes);
  const std::string error =
      testing::error_of(ExitCode::kCheckpoint, [&] { SafetensorsFile file(path); });
  EXPECT_THAT(error, HasSubstr(name));
  EXPECT_THAT(error, ::testing::Not(::testing::EndsWith("hint: "))) << "no hint";
  return error;
}

std::string error_of_header(const std::string& header, const std::string& data = "") {
  return error_of_bytes(raw_safetensors(header, data));
}

/// One tensor 'x' with these fields and 8 bytes of data.
std::string error_of_tensor(const std::string& dtype, const std::string& shape,
                            const std::string& offsets) {
  const std::string error = error_of_header(
      fmt::format(R"({{"x":{{"dtype":{},"shape":{},"data_offsets":{}}}}})", dtype, shape, offsets),
      std::string(8, '\0'));
  EXPECT_THAT(error, HasSubstr("tensor 'x'"));
  return error;
}

TEST(SafetensorsReader, RefusesEmptyAndShortFilesAndFolders) {
  EXPECT_THAT(error_of_bytes(""), HasSubstr("is empty"));
  EXPECT_THAT(error_of_bytes("abc"), HasSubstr("3 bytes, too few"));
  const TemporaryFolder folder;
  EXPECT_THAT(testing::error_of(ExitCode::kCheckpoint, [&] { SafetensorsFile f(folder.path()); }),
              HasSubstr("is a folder"));
  EXPECT_THAT(testing::error_of(ExitCode::kCheckpoint, [&] { SafetensorsFile f(folder / "no"); }),
              HasSubstr("No such file"));
}

TEST(SafetensorsReader, RefusesPickledFilesAndSaysWhy) {
  const std::string zip("PK\3\4\0\0\0\0\0\0\0\0", 12), pickle("\x80\2}q\0.\0\0\0\0", 10);
  for (const std::string& error :
       {error_of_bytes(zip), error_of_bytes(pickle), error_of_bytes("anything", "a.bin"),
        error_of_bytes("anything", "a.pt"), error_of_bytes("anything", "a.pth")}) {
    EXPECT_THAT(error, HasSubstr("arbitrary code"));
    EXPECT_THAT(error, HasSubstr("hint: convert it to safetensors"));
  }
}

TEST(SafetensorsReader, NamesAGitLfsPointer) {
  EXPECT_THAT(error_of_bytes("version https://git-lfs.github.com/spec/v1\noid sha256:00\n"),
              HasSubstr("git lfs pull"));
}

TEST(SafetensorsReader, RefusesAHeaderLongerThanTheFile) {
  std::string bytes = raw_safetensors("{}", "");
  bytes[0] = 100;
  EXPECT_THAT(error_of_bytes(bytes), HasSubstr("says its header has 100 bytes"));
  bytes[7] = '\xff';
  EXPECT_THAT(error_of_bytes(bytes), HasSubstr("but the file has 10"));
}

TEST(SafetensorsReader, RefusesAHeaderBeyondTheLimitOfTheFormat) {
  const TemporaryFolder folder;
  const std::string path = testing::write_raw(folder / "a", raw_safetensors("{}", ""));
  std::string bytes = read_text_file(path, ExitCode::kCheckpoint);
  const uint64_t length = 100'000'001;
  bytes.replace(0, 8, reinterpret_cast<const char*>(&length), 8);
  testing::write_raw(path, bytes);
  std::filesystem::resize_file(path, length + 8);  // sparse
  EXPECT_THAT(testing::error_of(ExitCode::kCheckpoint, [&] { SafetensorsFile file(path); }),
              HasSubstr("the format allows 100000000"));
}

TEST(SafetensorsReader, RefusesJsonThatIsNoHeader) {
  EXPECT_THAT(error_of_header("garbage"), HasSubstr("does not begin with '{'"));
  EXPECT_THAT(error_of_header("{\"x\":"), HasSubstr("not valid JSON"));
  EXPECT_THAT(error_of_header("{\"\xff\":1}"), HasSubstr("not valid JSON"));
  EXPECT_THAT(error_of_header("{} {}"), HasSubstr("not valid JSON"));
  EXPECT_THAT(error_of_header(R"({"x":1e999})"), HasSubstr("out of range"));
  EXPECT_THAT(error_of_header(R"({"x":[[[[1]]]]})"), HasSubstr("nested deeper"));
  EXPECT_THAT(error_of_header("{\"x\":" + std::string(1'000'000, '[')), HasSubstr("nested deeper"));
  EXPECT_THAT(error_of_header(R"({"x":3})"), HasSubstr("3 is not an object"));
  EXPECT_THAT(error_of_header(R"({"__metadata__":{"a":1}})"), HasSubstr("not a string"));
  EXPECT_THAT(error_of_header(R"({"__metadata__":"a"})"), HasSubstr("not an object"));
}

TEST(SafetensorsReader, RefusesAKeyGivenTwice) {
  const std::string entry = R"("x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  EXPECT_THAT(error_of_header("{" + entry + "," + entry + "}"), HasSubstr("\"x\" twice"));
  EXPECT_THAT(
      error_of_header(R"({"x":{"dtype":"U8","dtype":"F32","shape":[0],"data_offsets":[0,0]}})"),
      HasSubstr("\"dtype\" twice"));
}

TEST(SafetensorsReader, RefusesWrongDtypesAndShapes) {
  EXPECT_THAT(error_of_tensor("\"F8_E5M2\"", "[8]", "[0,8]"),
              HasSubstr("\"F8_E5M2\" is not one of F64, F32"));
  EXPECT_THAT(error_of_tensor("7", "[8]", "[0,8]"), HasSubstr("dtype 7 is not one of"));
  EXPECT_THAT(error_of_tensor("\"F32\"", "[-2]", "[0,8]"), HasSubstr("holds -2"));
  EXPECT_THAT(error_of_tensor("\"F32\"", "[2.0]", "[0,8]"), HasSubstr("holds 2.0"));
  EXPECT_THAT(error_of_tensor("\"F32\"", "2", "[0,8]"), HasSubstr("not a list"));
  EXPECT_THAT(error_of_tensor("\"F32\"", "[9223372036854775808]", "[0,8]"), HasSubstr("2^63-1"));
  EXPECT_THAT(error_of_tensor("\"F32\"", "[4294967296,4294967296]", "[0,8]"),
              HasSubstr("more than 2^63 bytes"));
  EXPECT_THAT(error_of_tensor("\"U8\"", "[0,4294967296,4294967296]", "[0,0]"),
              HasSubstr("more than 2^63 bytes"));
  EXPECT_THAT(error_of_tensor("\"F32\"", "[3]", "[0,8]"),
              HasSubstr("F32 [3] needs 12 bytes, but data_offsets [0, 8] hold 8"));
  EXPECT_THAT(error_of_header(R"({"x":{"shape":[],"data_offsets":[0,0]}})"), HasSubstr("no dtype"));
  EXPECT_THAT(error_of_header(R"({"x":{"dtype":"U8","data_offsets":[0,0]}})"),
              HasSubstr("no shape"));
}

TEST(SafetensorsReader, RefusesWrongOffsets) {
  EXPECT_THAT(error_of_tensor("\"F32\"", "[2]", "[8,0]"), HasSubstr("a begin and an end"));
  EXPECT_THAT(error_of_tensor("\"F32\"", "[2]", "[0,4,8]"), HasSubstr("a begin and an end"));
  EXPECT_THAT(error_of_tensor("\"F32\"", "[4]", "[0,16]"), HasSubstr("beyond the 8 bytes"));
  EXPECT_THAT(error_of_tensor("\"F32\"", "[2]", "[18446744073709551608,18446744073709551615]"),
              HasSubstr("2^63-1"));
  EXPECT_THAT(error_of_tensor("\"F32\"", "[1]", "[4,8]"), HasSubstr("after a hole"));
}

TEST(SafetensorsReader, RefusesOverlapsHolesAndRests) {
  const auto two = [](const char* x, const char* y, size_t bytes) {
    return error_of_header(fmt::format(R"({{"x":{{"dtype":"U8","shape":[4],"data_offsets":{}}},)"
                                       R"("y":{{"dtype":"U8","shape":[4],"data_offsets":{}}}}})",
                                       x, y),
                           std::string(bytes, '\0'));
  };
  EXPECT_THAT(two("[0,4]", "[2,6]", 6), AllOf(HasSubstr("tensor 'y'"), HasSubstr("within that")));
  EXPECT_THAT(two("[0,4]", "[0,4]", 4), HasSubstr("within that"));
  EXPECT_THAT(two("[0,4]", "[6,10]", 10), HasSubstr("hole"));
  EXPECT_THAT(two("[0,4]", "[4,8]", 9), HasSubstr("hold 8 bytes, but the file has 9"));
  EXPECT_THAT(two("[0,4]", "[4,8]", 7), AllOf(HasSubstr("beyond"), HasSubstr("truncated")));
}

TEST(SafetensorsReader, RefusesABooleanThatIsNeitherTrueNorFalse) {
  const TemporaryFolder folder;
  const SafetensorsFile file(testing::write_raw(
      folder / "a",
      raw_safetensors(R"({"x":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}})", "\1\2")));
  EXPECT_THAT(testing::error_of(ExitCode::kCheckpoint, [&] { file.load("x"); }),
              HasSubstr("element 1 of a BOOL is 2"));
}

TEST(SafetensorsReader, NamesATensorItDoesNotHave) {
  const TemporaryFolder folder;
  save_safetensors(folder / "a", {});
  const SafetensorsFile file(folder / "a");
  EXPECT_THAT(testing::error_of(ExitCode::kCheckpoint, [&] { file.load("no"); }),
              HasSubstr("has no tensor 'no'"));
}

/// Reads every byte of everything, so that AddressSanitizer sees each access outside the file.
bool reads_or_refuses(const std::string& path) {
  try {
    const SafetensorsFile file(path);
    for (const std::string& name : file.names()) (void)file.load(name).to(at::kDouble).sum();
    return true;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kCheckpoint);
    return false;
  }
}

TEST(SafetensorsReader, MutatedFilesAreReadOrRefusedButNeverCrash) {
  const TemporaryFolder folder;
  save_safetensors(folder / "good",
                   {{"a", at::ones({2, 3})},
                    {"b", at::ones({4}, at::kBool)},
                    {"c", at::ones({2, 0, 5}, at::kHalf)}},
                   {{{"key", "value"}}});
  const std::string good = read_text_file(folder / "good", ExitCode::kCheckpoint);
  ASSERT_TRUE(reads_or_refuses(folder / "good"));
  std::mt19937 random(7);
  const std::string alphabet = "0123456789{}[],:\"-eFIBUL \\\xff\x80";
  int refused = 0;
  for (int round = 0; round < 2000; ++round) {
    std::string bytes = good;
    for (uint32_t n = 1 + random() % 4; n > 0 && !bytes.empty(); --n) {
      const size_t at = random() % bytes.size();
      switch (random() % 4) {
        case 0:
          bytes[at] = static_cast<char>(random());
          break;
        case 1:
          bytes[at] = alphabet[random() % alphabet.size()];
          break;
        case 2:
          bytes.erase(at, 1 + random() % 8);
          break;
        default:
          bytes.insert(at, bytes.substr(random() % bytes.size(), 1 + random() % 16));
          break;
      }
    }
    // Not atomically: 2,000 syncs would take a minute.
    const std::string path = folder / "bad";
    FILE* file = std::fopen(path.c_str(), "wb");
    ASSERT_NE(file, nullptr);
    std::fwrite(bytes.data(), 1, bytes.size(), file);
    std::fclose(file);
    refused += reads_or_refuses(path) ? 0 : 1;
  }
  EXPECT_GT(refused, 1000) << "most mutations break the file";
}

}  // namespace
}  // namespace lorikeet
