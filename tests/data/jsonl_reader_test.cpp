#include "lorikeet/data/jsonl_reader.h"

#include <zlib.h>
#include <zstd.h>

#include "tests/data/data_testing.h"

namespace lorikeet {
namespace {

using data_testing::error_of;
using data_testing::line;
using data_testing::TemporaryFolder;
using data_testing::write_text;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string gzip(const std::string& text) {
  z_stream stream{};
  deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, text.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string zstd(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

class JsonlFile : public ::testing::Test {
 protected:
  std::string put(const std::string& name, const std::string& bytes) {
    write_text(folder_ / name, bytes);
    return folder_ / name;
  }
  std::vector<std::string> texts(const std::string& path, JsonlOptions options = {}) {
    JsonlReader reader({path}, options);
    std::vector<std::string> all;
    Document document;
    while (reader.next(document)) {
      all.emplace_back(document.text);
    }
    skipped_ = reader.skipped();
    return all;
  }
  std::string refused(const std::string& bytes, const std::string& name = "bad.jsonl") {
    const std::string path = put(name, bytes);
    return error_of([&] { texts(path); });
  }
  TemporaryFolder folder_;
  int64_t skipped_ = 0;
};

TEST_F(JsonlFile, IsReadPlainAndCompressed) {
  const std::string lines = line("one") + line("two");
  for (const auto& path :
       {put("a.jsonl", lines), put("a.jsonl.gz", gzip(lines)), put("a.jsonl.zst", zstd(lines))}) {
    EXPECT_THAT(texts(path), ElementsAre("one", "two")) << path;
  }
}

TEST_F(JsonlFile, MayHaveSeveralGzipMembersAndZstdFrames) {
  EXPECT_THAT(texts(put("a.gz", gzip(line("one")) + gzip("") + gzip(line("two")))),
              ElementsAre("one", "two"));
  EXPECT_THAT(texts(put("a.zst", zstd(line("one")) + zstd(line("two")))),
              ElementsAre("one", "two"));
}

TEST_F(JsonlFile, MayHaveWindowsLineEndsAByteOrderMarkBlankLinesAndNoLastLineEnd) {
  EXPECT_THAT(texts(put("a.jsonl", "\xef\xbb\xbf{\"text\": \"one\"}\r\n\r\n\n{\"text\":\"two\"}")),
              ElementsAre("one", "two"));
}

TEST_F(JsonlFile, CutShortIsRefusedWhereverItEnds) {
  const std::string lines = line("one") + line("two");
  for (const auto& [name, packed] :
       {std::pair("cut.jsonl.gz", gzip(lines)), std::pair("cut.jsonl.zst", zstd(lines))}) {
    for (size_t size = 0; size < packed.size(); ++size) {
      EXPECT_THAT(refused(packed.substr(0, size), name), HasSubstr(name)) << size;
    }
  }
}

TEST_F(JsonlFile, WithDamagedGzipDataIsRefused) {
  std::string packed = gzip(line("a text that is long enough to be damaged in the middle"));
  packed[packed.size() - 6] ^= 1;  // the checksum
  EXPECT_THAT(refused(packed, "bad.gz"), HasSubstr("bad.gz: gzip data is damaged"));
}

TEST_F(JsonlFile, ThatIsMissingOrAFolderIsRefused) {
  EXPECT_THAT(error_of([&] { texts(folder_ / "none.jsonl"); }),
              HasSubstr("none.jsonl: cannot open"));
  EXPECT_THAT(error_of([&] { texts(folder_.path()); }), HasSubstr("is a folder"));
}

TEST_F(JsonlFile, BadLinesAreNamedByFileLineAndReason) {
  const std::string good = line("one");
  EXPECT_THAT(refused(good + "{\"text\": \"two\""), HasSubstr("bad.jsonl:2: is not JSON"));
  EXPECT_THAT(refused(good + "[1]\n"), HasSubstr("bad.jsonl:2: is JSON, but not an object"));
  EXPECT_THAT(refused(good + good + "{}\n"), HasSubstr("bad.jsonl:3: has no \"text\""));
  EXPECT_THAT(refused("{\"text\": 5}\n"), HasSubstr("bad.jsonl:1: \"text\" is not a string"));
  EXPECT_THAT(refused("{\"text\": null}\n"), HasSubstr("\"text\" is not a string"));
  EXPECT_THAT(refused("{\"text\": \"\"}\n"), HasSubstr("\"text\" is empty"));
  EXPECT_THAT(refused("{\"text\": \"a\xff\"}\n"), HasSubstr("bad.jsonl:1: is not JSON in UTF-8"));
  EXPECT_THAT(refused("{\"text\": \"a\", \"domain\": 1}\n"),
              HasSubstr("\"domain\" is not a string"));
}

TEST_F(JsonlFile, BadLinesAreCountedAndSkippedOnRequest) {
  const std::string path =
      put("a.jsonl", line("one") + "{}\n" + "{\"text\": \"\xff\"}\n\nnot json\n" + line("two"));
  EXPECT_THAT(texts(path, {.skip_bad = true}), ElementsAre("one", "two"));
  EXPECT_EQ(skipped_, 3);
}

TEST_F(JsonlFile, DomainIsTheFileNameWhereTheLineHasNone) {
  const std::string path = put("web.v2.jsonl.gz", gzip(line("one") + line("two", "books")));
  JsonlReader reader({path}, {});
  Document document;
  ASSERT_TRUE(reader.next(document));
  EXPECT_EQ(document.domain, "web.v2");
  ASSERT_TRUE(reader.next(document));
  EXPECT_EQ(document.domain, "books");
}

TEST_F(JsonlFile, KeysCanBeChosen) {
  const std::string path = put("a.jsonl", "{\"body\": \"one\", \"from\": \"x\"}\n");
  JsonlReader reader({path}, {.text_key = "body", .domain_key = "from"});
  Document document;
  ASSERT_TRUE(reader.next(document));
  EXPECT_EQ(document.text, "one");
  EXPECT_EQ(document.domain, "x");
}

TEST_F(JsonlFile, LinesLongerThanTheCeilingAreRefusedAndShorterOnesRead) {
  const std::string path =
      put("long.jsonl", std::string(3000, 'x') + "\n" + std::string(5001, 'y'));
  LineReader reader(path, 5000);
  std::string_view found;
  ASSERT_TRUE(reader.next(found));
  EXPECT_EQ(found, std::string(3000, 'x'));
  EXPECT_THAT(error_of([&] {
                while (reader.next(found)) {
                }
              }),
              HasSubstr("long.jsonl:2: the line is longer than 5000 bytes"));
}

TEST_F(JsonlFile, OfManyMegabytesKeepsEveryLine) {
  std::string lines;
  for (int i = 0; i < 60000; ++i) {
    lines += std::string(static_cast<size_t>(i) % 97, 'a') + std::to_string(i) + "\n";
  }
  for (const auto& path :
       {put("b.txt", lines), put("b.gz", gzip(lines)), put("b.zst", zstd(lines))}) {
    LineReader reader(path);
    std::string_view found;
    std::string again;
    while (reader.next(found)) {
      again.append(found).append("\n");
    }
    EXPECT_TRUE(again == lines) << path;
    EXPECT_EQ(reader.line_number(), 60000);
  }
}

}  // namespace
}  // namespace lorikeet
