#include "lorikeet/data/tokenizer.h"

#include <sentencepiece_processor.h>

#include "lorikeet/data/jsonl_reader.h"
#include "tests/data/data_testing.h"

namespace lorikeet {
namespace {

using data_testing::error_of;
using data_testing::quickstart;
using data_testing::read_text;
using data_testing::small_tokenizer;
using data_testing::TemporaryFolder;
using data_testing::write_text;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

std::string utf8(uint32_t code) {
  std::string out;
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xC0 | code >> 6);
    out += static_cast<char>(0x80 | (code & 63));
  } else if (code < 0x10000) {
    out += static_cast<char>(0xE0 | code >> 12);
    out += static_cast<char>(0x80 | (code >> 6 & 63));
    out += static_cast<char>(0x80 | (code & 63));
  } else {
    out += static_cast<char>(0xF0 | code >> 18);
    out += static_cast<char>(0x80 | (code >> 12 & 63));
    out += static_cast<char>(0x80 | (code >> 6 & 63));
    out += static_cast<char>(0x80 | (code & 63));
  }
  return out;
}

// Words, spaces, control characters and anything else that Unicode has.
std::string random_text(std::mt19937& random) {
  const char* const words[] = {" ",  "  ", "\n", "\t", "news", "word", "number", "\r\n",
                               "12", "é",  "水", "▁",  " ▁ ",  "<s>",  "<0x0A>", "code"};
  std::string text;
  for (unsigned n = 1 + random() % 30; n > 0; --n) {
    if (random() % 3 > 0) {
      text += words[random() % std::size(words)];
    } else {
      uint32_t code = random() % 2 ? random() % 0x300 : random() % 0x110000;
      text += code >= 0xD800 && code < 0xE000 ? "?" : utf8(code);
    }
  }
  return text;
}

void expect_library_ids(const std::string& model, const std::vector<std::string>& texts) {
  const Tokenizer ours(model);
  sentencepiece::SentencePieceProcessor library;
  ASSERT_TRUE(library.Load(model).ok());
  for (const std::string& text : texts) {
    std::vector<int> expected;
    ASSERT_TRUE(library.Encode(text, &expected).ok());
    ASSERT_EQ(ours.encode(text), expected) << text.substr(0, 200);
  }
}

std::vector<std::string> quickstart_texts(const std::string& file, size_t count) {
  JsonlReader reader({quickstart(file)}, {});
  std::vector<std::string> texts;
  Document document;
  while (texts.size() < count && reader.next(document)) {
    texts.emplace_back(document.text);
  }
  return texts;
}

TEST(Tokenizer, GivesBackEveryText) {
  const Tokenizer tokenizer(small_tokenizer());
  std::mt19937 random(7);
  for (int i = 0; i < 3000; ++i) {
    const std::string text = random_text(random);
    ASSERT_EQ(tokenizer.decode(tokenizer.encode(text)), text) << i;
  }
  for (const std::string text : {"", " ", "\n", "  x", "▁", "▁▁", "x▁"}) {
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  }
  const std::string with_nul("a\0b", 3);
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(with_nul)), with_nul);
}

TEST(Tokenizer, EqualsTheLibraryOnRandomTexts) {
  std::mt19937 random(8);
  std::vector<std::string> texts;
  while (texts.size() < 3000) {
    const std::string text = random_text(random);
    if (text.find("▁") == std::string::npos) {  // which the library loses
      texts.push_back(text);
    }
  }
  expect_library_ids(small_tokenizer(), texts);
}

TEST(Tokenizer, EqualsTheLibraryOnRealTexts) {
  for (const char* file : {"python.jsonl.gz", "web.jsonl.gz", "books.jsonl.gz"}) {
    expect_library_ids(small_tokenizer(), quickstart_texts(file, 20));
  }
}

TEST(Tokenizer, ReadsMistralsModelWithItsCheckValues) {
  const std::string path = data_testing::shared_file("data/tokenizers/mistral_v1_tokenizer.model");
  if (path.empty()) {
    GTEST_SKIP() << "the Mistral tokenizer is not in the repository; set LORIKEET_SHARED";
  }
  const Tokenizer tokenizer(path);
  EXPECT_EQ(tokenizer.vocab_size(), 32000);
  EXPECT_EQ(tokenizer.bos(), 1);
  EXPECT_EQ(tokenizer.eos(), 2);
  EXPECT_THAT(tokenizer.encode("Hello world, MoE routing!"),
              ElementsAre(22557, 1526, 28725, 6885, 28749, 6356, 288, 28808));
  expect_library_ids(path, quickstart_texts("python.jsonl.gz", 20));
  std::mt19937 random(9);
  for (int i = 0; i < 1000; ++i) {
    const std::string text = random_text(random);
    ASSERT_EQ(tokenizer.decode(tokenizer.encode(text)), text) << i;
  }
}

TEST(Tokenizer, EncodesALongTextWithoutSpacesQuickly) {
  const Tokenizer tokenizer(small_tokenizer());
  std::string text;
  for (int i = 0; i < 200'000; ++i) {
    text += "word"[i % 4];
  }
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
}

TEST(Tokenizer, LeavesControlTokensOutOfTheText) {
  const Tokenizer tokenizer(small_tokenizer());
  std::vector<int32_t> ids = tokenizer.encode("news number 1");
  ids.insert(ids.begin(), tokenizer.bos());
  ids.push_back(tokenizer.eos());
  EXPECT_EQ(tokenizer.decode(ids), "news number 1");
}

TEST(Tokenizer, RefusesIdsOutsideTheVocabularyAndOtherFiles) {
  const Tokenizer tokenizer(small_tokenizer());
  EXPECT_THAT(error_of([&] { tokenizer.decode(std::vector<int32_t>{400}); }),
              HasSubstr("token id 400 is not in the vocabulary"));
  EXPECT_THAT(error_of([&] { tokenizer.piece(-1); }), HasSubstr("token id -1"));
  TemporaryFolder folder;
  write_text(folder / "a.model", "not a model");
  EXPECT_THAT(error_of([&] { Tokenizer(folder / "a.model"); }),
              HasSubstr("is not a SentencePiece model"));
  write_text(folder / "a.model", read_text(small_tokenizer()).substr(0, 3000));
  EXPECT_THAT(error_of([&] { Tokenizer(folder / "a.model"); }), HasSubstr("a.model"));
  EXPECT_THAT(error_of([&] { Tokenizer(folder / "none.model"); }), HasSubstr("none.model"));
}

TEST(TokenizerTraining, GivesTheSameFileEveryTime) {
  TemporaryFolder folder;
  write_text(folder / "text.jsonl", data_testing::make_lines(300, "news"));
  TokenizerTraining options{
      .inputs = {folder / "text.jsonl"}, .output = folder / "1.model", .vocab_size = 380};
  train_tokenizer(options);
  options.output = folder / "2.model";
  train_tokenizer(options);
  EXPECT_TRUE(read_text(folder / "1.model") == read_text(folder / "2.model"));
}

TEST(TokenizerTraining, LearnsFromASampleOfWholeDocuments) {
  TemporaryFolder folder;
  write_text(folder / "text.jsonl", data_testing::make_lines(500, "news"));
  TokenizerTraining options{
      .inputs = {folder / "text.jsonl"}, .output = folder / "all.model", .vocab_size = 380};
  train_tokenizer(options);
  options.output = folder / "part.model";
  options.sample_bytes = 20'000;
  train_tokenizer(options);
  EXPECT_FALSE(read_text(folder / "all.model") == read_text(folder / "part.model"));
  EXPECT_EQ(Tokenizer(folder / "part.model").vocab_size(), 380);
}

TEST(TokenizerTraining, SplitsDigitsAndHasLlamasSpecialIds) {
  const Tokenizer tokenizer(small_tokenizer());
  EXPECT_EQ(tokenizer.unknown(), 0);
  EXPECT_EQ(tokenizer.bos(), 1);
  EXPECT_EQ(tokenizer.eos(), 2);
  EXPECT_EQ(tokenizer.encode("1234").size(), 5u);  // the space in front, and four digits
}

TEST(TokenizerTraining, RefusesVocabulariesTheTextDoesNotAllow) {
  TemporaryFolder folder;
  write_text(folder / "text.jsonl", data_testing::make_lines(20, "news"));
  TokenizerTraining options{.inputs = {folder / "text.jsonl"}, .output = folder / "a.model"};
  options.vocab_size = 100;
  EXPECT_THAT(error_of([&] { train_tokenizer(options); }, ExitCode::kUsage),
              HasSubstr("--vocab-size: 100 is less than 261"));
  const auto refusal = [&](int64_t size) {
    options.vocab_size = size;
    return error_of([&] { train_tokenizer(options); }, ExitCode::kUsage);
  };
  EXPECT_THAT(refusal(100'000),
              MatchesRegex("--vocab-size: 100000 is more than [0-9]+, what the text offers"));
  EXPECT_THAT(refusal(262), MatchesRegex("--vocab-size: 262 is less than 2[0-9]+, the text's "
                                         "characters and the special pieces"));
  EXPECT_EQ(refusal(3'000'000'000), "--vocab-size: 3000000000 is more than 16777216");
  options.vocab_size = 300;
  write_text(folder / "text.jsonl", "\n");
  EXPECT_THAT(error_of([&] { train_tokenizer(options); }), HasSubstr("holds no documents"));
}

}  // namespace
}  // namespace lorikeet
