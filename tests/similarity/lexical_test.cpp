// Words, BM25 vectors and the inverted index.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "lorikeet/similarity/inverted_index.h"
#include "lorikeet/similarity/term_vectors.h"
#include "lorikeet/similarity/words.h"
#include "tests/data/data_testing.h"

namespace lorikeet {
namespace {

using ::testing::ElementsAre;

class Words : public ::testing::Test {
 protected:
  std::vector<uint32_t> words(const std::string& text) {
    std::vector<uint32_t> found;
    splitter_.split(tokenizer_.encode(text), found);
    return found;
  }
  Tokenizer tokenizer_{data_testing::small_tokenizer()};
  WordSplitter splitter_{tokenizer_};
};

TEST_F(Words, DependOnLettersAndNotOnCasePlaceOrPunctuation) {
  const auto expected = words("the quick brown fox2");
  ASSERT_EQ(expected.size(), 4u);
  EXPECT_EQ(words("The  QUICK, (brown)\n\tfox2!"), expected);
  EXPECT_EQ(words("the_quick-brown.fox2"), expected);
  EXPECT_EQ(words("the\u2019quick\u2014brown fox2"), expected);
  EXPECT_NE(words("the quick brown fox3"), expected);
  EXPECT_EQ(words("thequick brown fox2").size(), 3u);
  EXPECT_TRUE(words("... \n !?").empty());
}

TEST_F(Words, KeepAccentedLettersAndSeparateIdeographs) {
  EXPECT_EQ(words("caf\u00e9 na\u00efve").size(), 2u);
  EXPECT_NE(words("caf\u00e9"), words("cafe"));
  EXPECT_EQ(words("\u8a00\u8449 \u8a00").size(), 3u);
  EXPECT_EQ(words("\u8a00")[0], words("\u8a00\u8449")[0]);
}

TEST_F(Words, AreTheSameAroundBosAndEos) {
  std::vector<int32_t> ids = tokenizer_.encode("one two");
  ids.insert(ids.begin(), tokenizer_.bos());
  ids.push_back(tokenizer_.eos());
  std::vector<uint32_t> found;
  splitter_.split(ids, found);
  EXPECT_EQ(found, words("one two"));
}

TEST(TermVectors, HaveTheWeightsOfBm25AtLengthOne) {
  const Vocabulary vocabulary{
      .terms = {10, 20, 30}, .frequencies = {2, 5, 50}, .num_documents = 100, .mean_length = 8};
  std::vector<uint32_t> words = {30, 10, 99, 30, 30, 20};  // 99 is unknown
  std::vector<TermCount> counts;
  count_terms(words, counts);
  TermVectors vectors;
  append_bm25_vector(vocabulary, counts, 10, vectors);
  ASSERT_THAT(vectors.terms, ElementsAre(0, 1, 2));
  const auto weight = [](double count, double frequency) {
    const double idf = std::log(1 + (100 - frequency + 0.5) / (frequency + 0.5));
    return idf * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * 6.0 / 8));
  };
  const double a = weight(1, 2);
  const double b = weight(1, 5);
  const double c = weight(3, 50);
  const double length = std::sqrt(a * a + b * b + c * c);
  EXPECT_NEAR(vectors.weights[0], a / length, 1e-6);  // float's precision is 6e-8 of at most 1
  EXPECT_NEAR(vectors.weights[1], b / length, 1e-6);
  EXPECT_NEAR(vectors.weights[2], c / length, 1e-6);
  append_bm25_vector(vocabulary, counts, 2, vectors);  // the two heaviest, by ascending term
  EXPECT_THAT(std::vector<uint32_t>(vectors.terms.begin() + 3, vectors.terms.end()),
              ElementsAre(0, 1));
  append_bm25_vector(vocabulary, {}, 2, vectors);
  EXPECT_EQ(vectors.block().of(2).terms.size(), 0u);
}

// `count` vectors of up to 20 of 200 terms, common ones more often.
TermVectors random_vectors(size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> uniform(0, 1);
  Vocabulary vocabulary;
  vocabulary.num_documents = count;
  vocabulary.mean_length = 20;
  for (uint32_t term = 0; term < 200; ++term) {
    vocabulary.terms.push_back(term);
    vocabulary.frequencies.push_back(2 + term);
  }
  TermVectors vectors;
  for (size_t row = 0; row < count; ++row) {
    std::vector<uint32_t> words;
    for (size_t i = random() % 30; i > 0; --i) {
      words.push_back(static_cast<uint32_t>(200 * std::pow(uniform(random), 0.5)));
    }
    std::vector<TermCount> counts;
    count_terms(words, counts);
    append_bm25_vector(vocabulary, counts, 20, vectors);
  }
  return vectors;
}

std::vector<Neighbour> brute_force(const TermVectorSet& set, size_t row, size_t k) {
  std::vector<Neighbour> found;
  for (size_t other = 0; other < set.num_rows(); ++other) {
    const float score = dot(set.of(row), set.of(other));
    if (other != row && score > 0) found.push_back({static_cast<uint32_t>(other), score});
  }
  keep_best(found, k);
  return found;
}

TEST(InvertedIndex, FindsWhatBruteForceFindsInOneIndexAndInSeveral) {
  const TermVectors vectors = random_vectors(300, 1);
  TermVectorSet set;
  set.add(vectors.block());
  const InvertedIndex all(set, 0, 300, 200, 1000);
  const InvertedIndex left(set, 0, 130, 200, 1000);
  const InvertedIndex right(set, 130, 300, 200, 1000);
  InvertedIndex::Scratch scratch;
  std::vector<Neighbour> found;
  std::vector<Neighbour> more;
  for (uint32_t row = 0; row < 300; ++row) {
    const std::vector<Neighbour> expected = brute_force(set, row, 10);
    all.search(set.of(row), row, 10, scratch, found);
    ASSERT_EQ(found, expected) << row;
    left.search(set.of(row), row, 10, scratch, found);
    right.search(set.of(row), row, 10, scratch, more);
    found.insert(found.end(), more.begin(), more.end());
    keep_best(found, 10);
    ASSERT_EQ(found, expected) << row;
  }
}

TEST(InvertedIndex, WithShortListsMissesSomeAndScoresNoneWrong) {
  const TermVectors vectors = random_vectors(2000, 2);
  TermVectorSet set;
  set.add(vectors.block());
  const InvertedIndex index(set, 0, 2000, 200, 60);
  InvertedIndex::Scratch scratch;
  std::vector<Neighbour> found;
  size_t hits = 0;
  size_t total = 0;
  for (uint32_t row = 0; row < 2000; ++row) {
    index.search(set.of(row), row, 10, scratch, found);
    for (const Neighbour& entry : found) {
      ASSERT_EQ(entry.score, dot(set.of(row), set.of(entry.row)));
      ASSERT_NE(entry.row, row);
    }
    for (const Neighbour& entry : brute_force(set, row, 10)) {
      ++total;
      hits += static_cast<size_t>(std::count(found.begin(), found.end(), entry));
    }
  }
  EXPECT_LT(hits, total);
  EXPECT_GT(static_cast<double>(hits) / static_cast<double>(total), 0.5);
}

TEST(TermVectorSet, FindsRowsInTheirBlocks) {
  const TermVectors a = random_vectors(7, 3);
  const TermVectors b = random_vectors(7, 4);
  const TermVectors c = random_vectors(3, 5);
  TermVectorSet set;
  for (const TermVectors* part : {&a, &b, &c}) set.add(part->block());
  ASSERT_EQ(set.num_rows(), 17u);
  EXPECT_EQ(set.of(8).weights.data(), b.block().of(1).weights.data());
  EXPECT_EQ(set.of(16).weights.data(), c.block().of(2).weights.data());
}

}  // namespace
}  // namespace lorikeet
