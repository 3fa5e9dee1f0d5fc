// What the data room's tests share: small corpora, a tokenizer trained once, token folders.
#pragma once
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "lorikeet/core/error.h"
#include "lorikeet/core/file.h"
#include "lorikeet/data/dataset.h"
#include "lorikeet/data/tokenize.h"
#include "lorikeet/data/tokenizer_training.h"
#include "tests/core/temporary_folder.h"
#include "tests/support/source_dir.h"

namespace lorikeet::data_testing {

using lorikeet::testing::TemporaryFolder;

inline std::string quickstart(const std::string& name) {
  return std::string(kSourceDir) + "/data/quickstart/" + name;
}

/// A file that is not in the repository, or "" where it is missing.
inline std::string shared_file(const std::string& name) {
  const char* given = std::getenv("LORIKEET_SHARED");
  const std::string path =
      (given ? std::string(given) : std::string(kSourceDir) + "/../shared") + "/" + name;
  return std::filesystem::exists(path) ? path : "";
}

inline void write_text(const std::string& path, const std::string& text) {
  std::filesystem::remove(path);  // rewriting in place makes some file systems wait for the disk
  std::ofstream(path, std::ios::binary) << text;
}

inline std::string read_text(const std::string& path) {
  return read_text_file(path, ExitCode::kData);
}

inline std::string line(const std::string& text, const std::string& domain = "") {
  return "{\"text\": \"" + text + "\"" +
         (domain.empty() ? "" : ", \"domain\": \"" + domain + "\"") + "}\n";
}

/// `count` different documents of 1 to 40 words, the same on every call.
inline std::string make_lines(int count, const std::string& domain, unsigned seed = 1) {
  constexpr const char* kSyllables[] = {"ba",  "kor", "tri", "len", "su", "mo",  "pha",
                                        "rin", "te",  "vol", "qua", "ni", "dre", "xi",
                                        "gol", "um",  "yer", "jas", "fe", "wi"};
  std::mt19937 random(seed);
  std::string lines;
  for (int i = 0; i < count; ++i) {
    std::string text = domain + " number " + std::to_string(i);
    for (unsigned words = random() % 40; words > 0; --words) {
      text += ' ';
      for (unsigned parts = 1 + random() % 3; parts > 0; --parts) {
        text += kSyllables[random() % std::size(kSyllables)];
      }
    }
    lines += line(text, domain);
  }
  return lines;
}

/// A tokenizer of 400 pieces, trained once a process.
inline const std::string& small_tokenizer() {
  static const TemporaryFolder folder;
  static const std::string path = [] {
    write_text(folder / "text.jsonl", make_lines(300, "news") + make_lines(300, "code", 2));
    const std::string model = folder / "small.model";
    train_tokenizer({.inputs = {folder / "text.jsonl"}, .output = model, .vocab_size = 400});
    return model;
  }();
  return path;
}

/// Tokenises lines into `folder` and returns its path.
inline std::string make_dataset(const TemporaryFolder& folder, const std::string& lines,
                                double held_out = 0.0, int64_t shard_tokens = 2000) {
  write_text(folder / "input.jsonl", lines);
  const std::string output = folder / "tokens";
  tokenize({.inputs = {folder / "input.jsonl"},
            .tokenizer = small_tokenizer(),
            .output = output,
            .held_out = held_out,
            .shard_tokens = shard_tokens,
            .threads = 2});
  return output;
}

/// The message of the Error that `action` throws; checks its code.
template <class Action>
std::string error_of(Action action, ExitCode code = ExitCode::kData) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "nothing was refused";
  return "";
}

}  // namespace lorikeet::data_testing
