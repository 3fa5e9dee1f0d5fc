#include "lorikeet/core/hash.h"

#include <gtest/gtest.h>

#include <string>

namespace lorikeet {
namespace {

// Values of the xxHash specification's reference program (xxhsum 0.8).
TEST(Hash, EqualsThePublishedValues) {
  EXPECT_EQ(to_hex(hash64("")), "2d06800538d394c2");
  EXPECT_EQ(to_hex(hash64("abc")), "78af5f94892f3950");
  EXPECT_EQ(to_hex(hash128("")), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(to_hex(hash128("abc")), "06b05ab6733a618578af5f94892f3950");
}

TEST(Hash, StreamingEqualsOneShotHoweverItIsCut) {
  std::string text;
  for (int i = 0; i < 5000; ++i) text.push_back(static_cast<char>(i * 31 + i / 7));
  for (const size_t piece : {1, 7, 64, 255, 256, 257, 1024, 5000}) {
    Hasher64 hasher64;
    Hasher128 hasher128;
    for (size_t at = 0; at < text.size(); at += piece) {
      hasher64.update(text.substr(at, piece));
      hasher128.update(text.substr(at, piece));
    }
    EXPECT_EQ(hasher64.digest(), hash64(text)) << piece;
    EXPECT_EQ(hasher128.digest(), hash128(text)) << piece;
  }
}

TEST(Hash, DigestCanBeAskedForInBetween) {
  Hasher64 hasher;
  hasher.update("ab");
  EXPECT_EQ(hasher.digest(), hash64("ab"));
  hasher.update("c");
  EXPECT_EQ(hasher.digest(), hash64("abc"));
}

TEST(Hash, HexKeepsLeadingZeros) {
  EXPECT_EQ(to_hex(uint64_t{0xab}), "00000000000000ab");
  EXPECT_EQ(to_hex(Hash128{1, 2}), "00000000000000010000000000000002");
}

}  // namespace
}  // namespace lorikeet
