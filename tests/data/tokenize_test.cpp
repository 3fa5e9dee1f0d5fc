#include "lorikeet/data/tokenize.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lorikeet/core/hash.h"
#include "lorikeet/data/tokenizer.h"
#include "tests/data/data_testing.h"

namespace lorikeet {
namespace {

using data_testing::error_of;
using data_testing::line;
using data_testing::make_lines;
using data_testing::read_text;
using data_testing::small_tokenizer;
using data_testing::TemporaryFolder;
using data_testing::write_text;
using ::testing::HasSubstr;

class Tokenize : public ::testing::Test {
 protected:
  void SetUp() override {
    write_text(folder_ / "a.jsonl", make_lines(400, "news"));
    write_text(folder_ / "b.jsonl", make_lines(400, "code", 2));
    options_ = {.inputs = {folder_ / "a.jsonl", folder_ / "b.jsonl"},
                .tokenizer = small_tokenizer(),
                .output = folder_ / "tokens",
                .held_out = 0.05,
                .shard_tokens = 3000,
                .threads = 2};
  }
  // Every file of a finished folder, as one text.
  std::string content(const std::string& output) {
    std::string all;
    for (const std::string& name : folder_.list(output)) {
      all += name + "\n" + read_text(output + "/" + name);
    }
    return all;
  }
  TemporaryFolder folder_;
  TokenizeOptions options_;
};

TEST_F(Tokenize, PutsEveryDocumentInOrderBetweenBosAndEos) {
  tokenize(options_);
  const Dataset data(options_.output);
  const Tokenizer tokenizer(small_tokenizer());
  EXPECT_GT(data.manifest().shards.size(), 3u);
  EXPECT_EQ(data.tokenizer_hash(), tokenizer.hash());
  JsonlReader reader(options_.inputs, {});
  Document document;
  int64_t number = 0;
  for (; reader.next(document); ++number) {
    std::vector<int32_t> expected = tokenizer.encode(document.text);
    expected.insert(expected.begin(), 1);
    expected.push_back(2);
    ASSERT_EQ(data.tokens(number), expected);
    EXPECT_EQ(data.domains()[data.document(number).domain].name, document.domain);
    EXPECT_EQ(data.document(number).hash, hash64(document.text));
  }
  EXPECT_EQ(data.num_documents(), number);
}

TEST_F(Tokenize, GivesTheSameBitsWhateverTheThreads) {
  options_.threads = 1;
  tokenize(options_);
  const std::string expected = content(options_.output);
  options_.threads = 5;
  options_.output = folder_ / "again";
  tokenize(options_);
  EXPECT_TRUE(content(options_.output) == expected);
}

TEST_F(Tokenize, KilledAnywhereGoesOnToTheSameBits) {
  tokenize(options_);
  const std::string expected = content(options_.output);
  options_.output = folder_ / "killed";
  for (int kill = 0; kill < 6; ++kill) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      tokenize(options_);
      _exit(0);
    }
    // Wait for a shard more than the last time, then kill without warning.
    const std::string shard = fmt::format("{}/shard_{:05}.tokens", options_.output, kill);
    for (int i = 0; i < 2000 && !std::filesystem::exists(shard); ++i) {
      usleep(500);
    }
    ::kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
  }
  const TokenizeReport report = tokenize(options_);
  EXPECT_TRUE(report.resumed_shards > 0 || report.was_complete);
  EXPECT_TRUE(content(options_.output) == expected);
}

TEST_F(Tokenize, StoppedByABadLineGoesOnWithSkipBad) {
  write_text(folder_ / "b.jsonl", make_lines(390, "code", 2) + "bad\n" + make_lines(9, "poems", 3));
  options_.threads = 1;
  EXPECT_THAT(error_of([&] { tokenize(options_); }), HasSubstr("b.jsonl:391: is not JSON"));
  options_.jsonl.skip_bad = true;
  const TokenizeReport report = tokenize(options_);
  EXPECT_GT(report.resumed_shards, 0);
  EXPECT_EQ(Dataset(options_.output).manifest().skipped_lines, 1);
  const std::string expected = content(options_.output);
  options_.output = folder_ / "fresh";
  tokenize(options_);
  EXPECT_TRUE(content(options_.output) == expected);
}

TEST_F(Tokenize, RefusesToGoOnWithOtherInputsOrOptions) {
  write_text(folder_ / "b.jsonl", make_lines(390, "code", 2) + "bad\n");
  error_of([&] { tokenize(options_); });
  const auto message = [&](const TokenizeOptions& options) {
    return error_of([&] { tokenize(options); });
  };
  TokenizeOptions other = options_;
  other.add_eos = false;
  EXPECT_THAT(message(other),
              HasSubstr("holds tokens of another run: add_eos was true, now false"));
  other = options_;
  other.inputs.pop_back();
  EXPECT_THAT(message(other), HasSubstr("inputs was"));
  write_text(folder_ / "b.jsonl", make_lines(390, "code", 2) + "{}\n\n");
  EXPECT_THAT(message(options_), HasSubstr("inputs was"));
  options_.force = true;
  options_.jsonl.skip_bad = true;
  tokenize(options_);
  EXPECT_EQ(Dataset(options_.output).num_documents(), 790);
}

TEST_F(Tokenize, OfACompleteFolderDoesNothingAndWithOtherOptionsIsRefused) {
  tokenize(options_);
  EXPECT_TRUE(tokenize(options_).was_complete);
  options_.held_out = 0.2;
  EXPECT_THAT(error_of([&] { tokenize(options_); }), HasSubstr("held_out was 0.05, now 0.2"));
}

TEST_F(Tokenize, ADamagedShardIsRefusedOnResume) {
  write_text(folder_ / "b.jsonl", make_lines(390, "code", 2) + "bad\n");
  error_of([&] { tokenize(options_); });
  const std::string shard = options_.output + "/shard_00000.tokens";
  write_text(shard, read_text(shard).substr(0, 1000));
  EXPECT_THAT(error_of([&] { tokenize(options_); }), HasSubstr("shard_00000.tokens"));
}

TEST_F(Tokenize, CopiesOfATextAreAllOnOneSideWhateverTheirDomain) {
  write_text(folder_ / "a.jsonl", make_lines(300, "news"));
  std::string same = make_lines(300, "news");
  for (size_t at = 0; (at = same.find("\"domain\": \"news\"", at)) != std::string::npos;) {
    same.replace(at, 16, "\"domain\": \"copy\"");
  }
  write_text(folder_ / "b.jsonl", same + make_lines(12, "tiny", 5));
  tokenize(options_);
  const Dataset data(options_.output);
  for (int64_t i = 0; i < 300; ++i) {
    EXPECT_EQ(data.document(i).split, data.document(i + 300).split) << i;
  }
  EXPECT_GE(data.domains()[0].documents[1], 8);
  EXPECT_GE(data.domains()[2].documents[1], 1);
  EXPECT_GE(data.domains()[2].documents[0], 10);
}

TEST_F(Tokenize, HeldOutShareIsAboutWhatWasAskedFor) {
  write_text(folder_ / "a.jsonl", make_lines(4000, "news"));
  options_.inputs.pop_back();
  options_.held_out = 0.1;
  tokenize(options_);
  EXPECT_NEAR(static_cast<double>(Dataset(options_.output).domains()[0].documents[1]), 400, 80);
}

TEST_F(Tokenize, RefusesAFolderInWhichAnotherRunWrites) {
  std::filesystem::create_directories(options_.output);
  const int other = ::open(options_.output.c_str(), O_RDONLY | O_DIRECTORY);
  ASSERT_EQ(::flock(other, LOCK_EX), 0);
  EXPECT_THAT(error_of([&] { tokenize(options_); }), HasSubstr("another run is writing here"));
  ::close(other);
  tokenize(options_);
}

TEST_F(Tokenize, RefusesEmptyInputAndBadOptions) {
  write_text(folder_ / "a.jsonl", "\n\n");
  options_.inputs.pop_back();
  EXPECT_THAT(error_of([&] { tokenize(options_); }), HasSubstr("the input holds no documents"));
  options_.held_out = 1.0;
  EXPECT_THAT(error_of([&] { tokenize(options_); }, ExitCode::kUsage), HasSubstr("--held-out"));
  options_.held_out = 0;
  options_.inputs = {folder_ / "none.jsonl"};
  EXPECT_THAT(error_of([&] { tokenize(options_); }), HasSubstr("none.jsonl"));
  EXPECT_THAT(error_of([&] { Dataset data(options_.output); }),
              HasSubstr("there is no manifest.json"));
  EXPECT_THAT(error_of([&] { Dataset data(folder_ / "none"); }),
              HasSubstr("none: there is no such folder of token shards"));
}

TEST_F(Tokenize, AShardOfAnotherRunOrAChangedManifestIsRefused) {
  tokenize(options_);
  TokenizeOptions other = options_;
  other.output = folder_ / "other";
  other.add_bos = false;
  tokenize(other);
  const std::string shard = "/shard_00001.tokens";
  const std::string good = read_text(options_.output + shard);
  write_text(options_.output + shard, read_text(other.output + shard));
  EXPECT_THAT(error_of([&] { Dataset data(options_.output); }),
              HasSubstr("shard_00001.tokens: header: expected checksum"));
  std::string flipped = good;
  flipped[200] ^= 1;
  write_text(options_.output + shard, flipped);
  EXPECT_THAT(error_of([&] { Dataset data(options_.output); }),
              HasSubstr("shard_00001.tokens: tokens: expected checksum"));
  write_text(options_.output + shard, good);
  std::string manifest = read_text(options_.output + "/manifest.json");
  const size_t at = manifest.find("\"threshold\": \"") + 14;
  manifest[at] = manifest[at] == '0' ? '1' : '0';
  write_text(options_.output + "/manifest.json", manifest);
  EXPECT_THAT(error_of([&] { Dataset data(options_.output); }), HasSubstr("expected fingerprint"));
}

TEST_F(Tokenize, ABrokenManifestIsRefusedInOurOwnWords) {
  tokenize(options_);
  const std::string path = options_.output + "/manifest.json", good = read_text(path);
  const auto refusal = [&](const std::string& old, const std::string& changed) {
    std::string text = good;
    text.replace(text.find(old), old.size(), changed);
    write_text(path, text);
    return error_of([&] { Dataset data(options_.output); });
  };
  EXPECT_EQ(
      refusal("\"vocab_size\"", "vocab_size"),
      fmt::format("{}: is not JSON: broken at byte {}", path, good.find("\"vocab_size\"") + 1));
  EXPECT_EQ(refusal("\"vocab_size\"", "\"size\""), path + ": lacks the key 'vocab_size'");
  EXPECT_EQ(refusal("\"bos\": ", "\"bos\": [], \"x\": "),
            path + ": holds a value of another kind than it must");
  EXPECT_EQ(refusal("\"checksum\": \"", "\"checksum\": \"xyz"),
            fmt::format("{}: \"xyz{}\" is not a hash of 16 digits", path,
                        good.substr(good.find("\"checksum\": \"") + 13, 16)));
  write_text(path, "[1]");
  EXPECT_EQ(error_of([&] { Dataset data(options_.output); }),
            path + ": holds a value of another kind than it must");
}

TEST_F(Tokenize, SaysSoWhenTheDiskIsFull) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    // A limit on the size of files stands in for a full disk: writes beyond it fail.
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{4096, 4096};
    setrlimit(RLIMIT_FSIZE, &limit);
    try {
      tokenize(options_);
    } catch (const Error& error) {
      _exit(static_cast<int>(error.code()));
    }
    _exit(99);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), static_cast<int>(ExitCode::kData));
  EXPECT_THAT(folder_.list(options_.output), ::testing::IsEmpty());
}

}  // namespace
}  // namespace lorikeet
