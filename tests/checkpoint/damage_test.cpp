// Whatever happens to a checkpoint's files is noticed, and named.
#include <gmock/gmock.h>

#include <filesystem>

#include "lorikeet/core/hash.h"
#include "lorikeet/core/log.h"
#include "tests/checkpoint/content.h"

namespace lorikeet {
namespace {

using namespace lorikeet::testing;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr const char* kTensors = "tensors_rank_00000.safetensors";
constexpr const char* kFiles[] = {kTensors, "state.json", "manifest.json"};

class CheckpointDamage : public ::testing::Test {
 protected:
  CheckpointDamage() : store_(folder_ / "run", keep(3), one_rank(), quick_retry()) {
    store_.save(make_content(5));
  }
  std::string path(const std::string& file) const { return store_.path_of(5) + "/" + file; }
  std::string refusal() const {
    const std::string error = error_of(ExitCode::kCheckpoint, [&] { store_.load(5); });
    EXPECT_THAT(error, ::testing::Not(::testing::EndsWith("hint: "))) << "no hint";
    return error;
  }

  TemporaryFolder folder_;
  CheckpointStore store_;
};

/// A manifest that was changed, with the checksum of its new text.
std::string sealed_again(std::string text) {
  const std::string seal = ",\n  \"checksum\": \"";
  text.resize(text.rfind(seal));
  return text + seal + to_hex(hash64(text)) + "\"\n}\n";
}

TEST_F(CheckpointDamage, OfAnySingleByteIsNoticed) {
  for (const std::string file : kFiles) {
    const std::string original = read_file(path(file));
    ASSERT_GT(original.size(), 50u);
    for (size_t i = 0; i < original.size(); ++i) {
      std::string damaged = original;
      damaged[i] = static_cast<char>(damaged[i] ^ (1 << (i % 8)));
      overwrite_file(path(file), damaged);
      EXPECT_THROW(store_.load(5), Error) << file << " byte " << i;
    }
    overwrite_file(path(file), original);
    expect_equal(store_.load(5), make_content(5));
  }
}

TEST_F(CheckpointDamage, NamesFileTensorAndBothChecksums) {
  std::string data = read_file(path(kTensors));
  const torch::Tensor weight = make_content(5).tensors[0].values;
  const std::string bytes(static_cast<const char*>(weight.const_data_ptr()), weight.nbytes());
  const size_t place = data.find(bytes);
  ASSERT_NE(place, std::string::npos);
  data[place + 1] = static_cast<char>(data[place + 1] + 1);
  overwrite_file(path(kTensors), data);
  const std::string found = to_hex(hash64(data.data() + place, bytes.size()));
  EXPECT_THAT(refusal(), AllOf(HasSubstr(path(kTensors)), HasSubstr("'model.weight'"),
                               HasSubstr("expected " + to_hex(hash64(bytes))),
                               HasSubstr("checksum is " + found), HasSubstr("hint: ")));
}

TEST_F(CheckpointDamage, ByTruncationAtAnyLengthIsNoticed) {
  for (const std::string file : kFiles) {
    const std::string original = read_file(path(file));
    for (size_t size = 0; size < original.size(); size += 7) {
      overwrite_file(path(file), original.substr(0, size));
      EXPECT_THAT(refusal(), HasSubstr(path(file))) << size;
    }
    overwrite_file(path(file), original + "x");
    EXPECT_THAT(refusal(), HasSubstr(path(file)));
    overwrite_file(path(file), original);
  }
}

TEST_F(CheckpointDamage, ByAMissingFileIsNoticed) {
  for (const std::string file : kFiles) {
    std::filesystem::rename(path(file), folder_ / "aside");
    EXPECT_THAT(refusal(), HasSubstr(file));
    std::filesystem::rename(folder_ / "aside", path(file));
  }
  EXPECT_NO_THROW(store_.load(5));
}

TEST_F(CheckpointDamage, ByAFileTooManyIsNoticedUnlessItIsHidden) {
  overwrite_file(path(".nfs0001"), "left by a file system");
  EXPECT_NO_THROW(store_.load(5));
  overwrite_file(path("tensors_rank_00001.safetensors"), "from where?");
  EXPECT_THAT(refusal(), AllOf(HasSubstr("tensors_rank_00001"), HasSubstr("no part of")));
}

TEST_F(CheckpointDamage, ByFilesOfAnotherCheckpointIsNoticed) {
  store_.save(make_content(6));
  for (const std::string file : {kTensors, "manifest.json"}) {
    const std::string original = read_file(path(file));
    overwrite_file(path(file), read_file(store_.path_of(6) + "/" + file));
    refusal();
    overwrite_file(path(file), original);
  }
  EXPECT_NO_THROW(store_.load(5));
}

TEST_F(CheckpointDamage, RefusesAnotherFormatVersionByName) {
  const std::string original = read_file(path("manifest.json"));
  const auto refusal_of_version = [&](int version) {
    std::string text = original;
    const std::string member = "\"version\": 2";
    text.replace(text.find(member), member.size(), fmt::format("\"version\": {}", version));
    overwrite_file(path("manifest.json"), sealed_again(text));
    return refusal();
  };
  EXPECT_THAT(refusal_of_version(3), AllOf(HasSubstr("format version 3"), HasSubstr("reads 2")));
  EXPECT_THAT(refusal_of_version(1), AllOf(HasSubstr("format version 1"), HasSubstr("reads 2"),
                                           HasSubstr("never released")));
}

TEST_F(CheckpointDamage, RefusesAManifestWhosePiecesDoNotMakeUpTheirTensor) {
  const std::string original = read_file(path("manifest.json"));
  const auto refusal_with = [&](const std::string& from, const std::string& to) {
    std::string text = original;
    text.replace(text.find(from), from.size(), to);
    overwrite_file(path("manifest.json"), sealed_again(text));
    return refusal();
  };
  // rng: 11 bytes
  EXPECT_THAT(refusal_with("\"numel\": 11", "\"numel\": 10"),
              AllOf(HasSubstr("'rng' U8 [11]"), HasSubstr("elements 10 to 10 are in no")));
  EXPECT_THAT(refusal_with("\"numel\": 11", "\"numel\": 12"), HasSubstr("hold 12 elements of 11"));
}

TEST_F(CheckpointDamage, RefusesAFolderWithTheNameOfAnotherStep) {
  std::filesystem::copy(store_.path_of(5), store_.path_of(9));
  EXPECT_THAT(error_of(ExitCode::kCheckpoint, [&] { store_.load(9); }),
              AllOf(HasSubstr("holds step 5"), HasSubstr("name says 9")));
  EXPECT_EQ(store_.load_newest()->step, 5);
  EXPECT_EQ(CheckpointStore::load(store_.path_of(9)).step, 5);  // by path the name says nothing
}

TEST_F(CheckpointDamage, RefusesAPathThatIsNoCheckpoint) {
  for (const std::string& path : {folder_ / "nowhere", folder_ / "run", std::string()}) {
    EXPECT_THAT(error_of(ExitCode::kCheckpoint, [&] { CheckpointStore::load(path); }),
                HasSubstr("is no checkpoint"));
  }
}

TEST_F(CheckpointDamage, MakesTheNewestFallBackWithOneWarningEach) {
  for (const int64_t step : {6, 7}) {
    store_.save(make_content(step));
    const std::string file = store_.path_of(step) + "/state.json";
    overwrite_file(file, read_file(file).replace(3, 1, "#"));
  }
  open_log_file(folder_ / "log");
  for (int time = 0; time < 3; ++time) expect_equal(*store_.load_newest(), make_content(5));
  const std::string log = read_file(folder_ / "log");
  for (const std::string step : {"step 6 is passed over", "step 7 is passed over"}) {
    ASSERT_THAT(log, HasSubstr(step));
    EXPECT_EQ(log.find(step), log.rfind(step)) << log;
  }
  overwrite_file(path("state.json"), "");
  EXPECT_FALSE(store_.load_newest().has_value());
}

}  // namespace
}  // namespace lorikeet
