// Word 3-grams, MinHash and what counts as a duplicate.
#include "lorikeet/similarity/duplicates.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace lorikeet {
namespace {

using Words = std::vector<uint32_t>;

Words random_words(size_t count, unsigned seed) {
  std::mt19937 random(seed);
  Words words(count);
  for (uint32_t& word : words) word = static_cast<uint32_t>(random());
  return words;
}

std::vector<uint64_t> shingles(const Words& words) {
  std::vector<uint64_t> found;
  shingles_of(words, found);
  return found;
}

Duplicates find(const std::vector<Words>& documents, const NeighbourTable& table,
                const DuplicateRule& rule, int64_t threads = 2) {
  return find_duplicates(
      table, std::vector<bool>(table.num_rows(), true), rule,
      [&](size_t row, Words& words) { words = documents[row]; }, threads);
}

TEST(Shingles, AreEveryThreeWordsInARowOnce) {
  EXPECT_EQ(shingles({1, 2, 3, 4}).size(), 2u);
  EXPECT_EQ(shingles({1, 2, 3, 1, 2, 3}).size(), 3u);  // 123 231 312
  EXPECT_EQ(shingles({1, 2}).size(), 1u);
  EXPECT_NE(shingles({1, 2}), shingles({2, 1}));
  EXPECT_TRUE(shingles({}).empty());
}

TEST(Shingles, JaccardIsSharedOverAll) {
  EXPECT_DOUBLE_EQ(jaccard(shingles({1, 2, 3, 4}), shingles({1, 2, 3, 5})), 1.0 / 3);
  EXPECT_DOUBLE_EQ(jaccard(shingles({1, 2, 3}), shingles({1, 2, 3})), 1);
  EXPECT_DOUBLE_EQ(jaccard(shingles({1, 2, 3}), shingles({4, 5, 6})), 0);
  EXPECT_DOUBLE_EQ(jaccard({}, {}), 0);
}

TEST(MinHash, BandsAgreeAsOftenAsTheJaccardSimilaritySays) {
  // Sets of 600 with 480 shared: J = 480 / 720 = 2/3. A band agrees with J^8 = 0.039, any of 16
  // with 0.47; bins are drawn without replacement, so the count of 400 pairs is 188 within 5
  // deviations of 10.
  std::mt19937_64 random(3);
  int agreeing = 0;
  int chance = 0;
  for (int pair = 0; pair < 400; ++pair) {
    std::vector<uint64_t> a(600);
    for (uint64_t& value : a) value = random();
    std::vector<uint64_t> b = a;
    for (size_t i = 0; i < 120; ++i) b[i] = random();
    const auto agree = [](const MinHashBands& x, const MinHashBands& y) {
      bool is_found = false;
      for (size_t band = 0; band < x.size(); ++band) is_found = is_found || x[band] == y[band];
      return is_found;
    };
    agreeing += agree(min_hash_bands(a), min_hash_bands(b));
    for (uint64_t& value : b) value = random();
    chance += agree(min_hash_bands(a), min_hash_bands(b));
  }
  EXPECT_NEAR(agreeing, 188, 50);
  EXPECT_EQ(chance, 0);
}

TEST(MinHash, OfFewShinglesIsThatOfTheSetAndOfNothingElse) {
  const std::vector<uint64_t> one = shingles({1, 2, 3});
  EXPECT_EQ(min_hash_bands(one), min_hash_bands(one));
  EXPECT_NE(min_hash_bands(one), min_hash_bands(shingles({1, 2, 4})));
}

TEST(Duplicates, AreTheRowsThatRepeatAnEarlierOne) {
  std::vector<Words> documents;
  for (unsigned i = 0; i < 40; ++i) documents.push_back(random_words(200, i));
  documents[20] = documents[3];
  documents[30] = documents[3];
  documents[30][100] = 7;  // 3 of 198 shingles differ: J = 195 / 201
  documents[35] = documents[5];
  for (size_t i = 0; i < 60; ++i) documents[35][i] = 1;  // far below 0.85
  const Duplicates found = find(documents, NeighbourTable(40, 3), {});
  for (size_t row = 0; row < 40; ++row) {
    const bool repeats = row == 20 || row == 30;
    EXPECT_EQ(found.original[row], repeats ? 3u : Neighbour::kNone) << row;
  }
  EXPECT_FLOAT_EQ(found.jaccard[20], 1);
  EXPECT_FLOAT_EQ(found.jaccard[30], 195.0f / 201);
  EXPECT_EQ(find(documents, NeighbourTable(40, 3), {}, 1).original, found.original);
  const Duplicates off = find(documents, NeighbourTable(40, 3), {.jaccard = 1.1});
  EXPECT_EQ(std::count(off.original.begin(), off.original.end(), Neighbour::kNone), 40);
}

TEST(Duplicates, ByCosineNeedAnEarlierOriginal) {
  // 0, 1 and 2 are alike in a row; 2 is like 1 only, and 1 is not kept as an original.
  NeighbourTable table(3, 2);
  table.entries = {{1, 0.97f}, {2, 0.5f}, {0, 0.97f}, {2, 0.96f}, {1, 0.96f}, {0, 0.5f}};
  const std::vector<Words> documents = {random_words(50, 1), random_words(50, 2),
                                        random_words(50, 3)};
  const Duplicates found = find(documents, table, {});
  EXPECT_THAT(found.original, ::testing::ElementsAre(Neighbour::kNone, 0u, Neighbour::kNone));
  const Duplicates strict = find(documents, table, {.cosine = 0.99});
  EXPECT_EQ(strict.original[1], Neighbour::kNone);
}

TEST(Duplicates, OfAThousandCopiesOneStays) {
  const std::vector<Words> documents(1000, random_words(50, 1));
  const Duplicates found = find(documents, NeighbourTable(1000, 3), {});
  EXPECT_EQ(found.original[0], Neighbour::kNone);
  EXPECT_EQ(std::count(found.original.begin(), found.original.end(), 0u), 999);
}

TEST(Duplicates, DocumentsWithoutWordsRepeatNothing) {
  const Duplicates found = find({{}, {}, {}}, NeighbourTable(3, 1), {});
  EXPECT_EQ(std::count(found.original.begin(), found.original.end(), Neighbour::kNone), 3);
}

}  // namespace
}  // namespace lorikeet
