#include "lorikeet/data/shard.h"

#include "tests/data/data_testing.h"

namespace lorikeet {
namespace {

using data_testing::error_of;
using data_testing::read_text;
using data_testing::TemporaryFolder;
using data_testing::write_text;
using ::testing::HasSubstr;

class ShardFile : public ::testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override {
    ShardBuilder builder(GetParam(), 77);
    builder.add(std::vector<int32_t>{1, 5, 399, 2}, "news", 11);
    builder.add(std::vector<int32_t>{1}, "code", 12);
    builder.add(std::vector<int32_t>{7, 8, 9}, "news", 13);
    builder.write(path_);
  }
  TemporaryFolder folder_;
  std::string path_ = folder_ / "shard.tokens";
};

TEST_P(ShardFile, GivesBackDocumentsAndDomains) {
  const Shard shard(path_);
  shard.verify_tokens();
  EXPECT_EQ(shard.header().token_bytes, GetParam() <= 65536 ? 2u : 4u);
  EXPECT_EQ(shard.header().tokenizer_hash, 77u);
  EXPECT_THAT(shard.domains(), ::testing::ElementsAre("news", "code"));
  ASSERT_EQ(shard.documents().size(), 3u);
  EXPECT_EQ(shard.documents()[2].hash, 13u);
  EXPECT_EQ(shard.documents()[1].domain, 1u);
  std::vector<int32_t> tokens(8);
  shard.copy_tokens(0, tokens);
  EXPECT_THAT(tokens, ::testing::ElementsAre(1, 5, 399, 2, 1, 7, 8, 9));
}

TEST_P(ShardFile, IsRefusedWithAnyBitFlipped) {
  const std::string good = read_text(path_);
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ (1 << (i % 8)));
    write_text(path_, bad);
    EXPECT_THAT(error_of([&] { Shard(path_).verify_tokens(); }), HasSubstr(path_)) << "byte " << i;
  }
}

TEST_P(ShardFile, IsRefusedAtAnyOtherLength) {
  const std::string good = read_text(path_);
  for (size_t size = 0; size < good.size(); ++size) {
    write_text(path_, good.substr(0, size));
    EXPECT_THAT(error_of([&] { Shard shard(path_); }), HasSubstr(path_)) << size << " bytes";
  }
  write_text(path_, good + "x");
  EXPECT_THAT(error_of([&] { Shard shard(path_); }), HasSubstr("cut short"));
}

INSTANTIATE_TEST_SUITE_P(TokenSizes, ShardFile, ::testing::Values(400, 65536, 65537));

TEST(Shard, NamesSectionExpectedAndFound) {
  TemporaryFolder folder;
  const std::string path = folder / "shard.tokens";
  ShardBuilder builder(400, 1);
  builder.add(std::vector<int32_t>{1, 2, 3, 4}, "news", 1);
  builder.write(path);
  const std::string good = read_text(path);
  const auto message = [&](size_t at, char value) {
    std::string bad = good;
    bad[at] = value;
    write_text(path, bad);
    return error_of([&] { Shard(path).verify_tokens(); });
  };
  EXPECT_THAT(message(0, 'x'), HasSubstr("header: expected the magic \"LKSHARD\", found"));
  EXPECT_THAT(message(8, 9), HasSubstr("header: expected format version 1, found 9"));
  EXPECT_THAT(message(128, 99), HasSubstr("tokens: expected checksum "));
  EXPECT_THAT(message(136, 99), HasSubstr("document table: expected checksum "));
  EXPECT_THAT(message(good.size() - 1, 'x'), HasSubstr("domain table: expected checksum "));
}

}  // namespace
}  // namespace lorikeet
