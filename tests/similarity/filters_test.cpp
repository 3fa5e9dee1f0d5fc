#include "lorikeet/similarity/filters.h"

#include <gmock/gmock.h>

#include <random>
#include <vector>

namespace lorikeet {
namespace {

// By definition: a stretch at every place, counted as long as it stands again behind itself.
int64_t plain_repetition(const std::vector<int32_t>& tokens, size_t longest) {
  int64_t most = tokens.empty() ? 0 : 1;
  for (size_t length = 1; length <= longest; ++length) {
    for (size_t begin = 0; begin + length <= tokens.size(); ++begin) {
      int64_t times = 1;
      for (size_t next = begin + length;
           next + length <= tokens.size() &&
           std::equal(tokens.begin() + static_cast<int64_t>(begin),
                      tokens.begin() + static_cast<int64_t>(begin + length),
                      tokens.begin() + static_cast<int64_t>(next));
           next += length) {
        ++times;
      }
      most = std::max(most, times);
    }
  }
  return most;
}

TEST(Filters, CountRepetitionsAsTheDefinitionDoes) {
  std::mt19937 random(1);
  int64_t repeated = 0;
  for (int i = 0; i < 300; ++i) {
    std::vector<int32_t> tokens(random() % 40);
    for (int32_t& token : tokens) token = static_cast<int32_t>(random() % 2);
    const int64_t expected = plain_repetition(tokens, 5);
    EXPECT_EQ(longest_repetition(tokens, 5), expected);
    repeated += expected > 3;
  }
  EXPECT_GT(repeated, 100);
  EXPECT_EQ(longest_repetition({}, 13), 0);
}

std::vector<int32_t> repeated(int64_t length, int64_t times) {
  std::vector<int32_t> tokens = {1000};
  for (int64_t i = 0; i < length * times; ++i) tokens.push_back(static_cast<int32_t>(i % length));
  tokens.push_back(1001);
  return tokens;
}

TEST(Filters, LeaveOutFrom32RepetitionsOf1To13TokensOn) {
  const std::vector<uint32_t> words = {1, 2, 3, 4, 5};
  for (const int64_t length : {1, 2, 13}) {
    EXPECT_EQ(filter_of(repeated(length, 32), words, {}), Filter::kRepetition) << length;
    EXPECT_EQ(filter_of(repeated(length, 31), words, {}), Filter::kNone) << length;
  }
  EXPECT_EQ(filter_of(repeated(14, 32), words, {}), Filter::kNone);
  EXPECT_EQ(filter_of(repeated(1, 32), words, {.repetitions = 0}), Filter::kNone);
}

TEST(Filters, LeaveOutOverFrequentWords) {
  const auto filter = [](const std::vector<uint32_t>& words) { return filter_of({}, words, {}); };
  EXPECT_EQ(filter({1, 1, 1, 2, 3, 4, 5, 6, 7, 8}), Filter::kNone);  // 30% exactly
  EXPECT_EQ(filter({1, 1, 1, 2, 3, 4, 5, 6, 7}), Filter::kFrequentWord);
  EXPECT_EQ(filter({1, 1, 1, 2, 3, 4, 2, 6, 7, 8}), Filter::kNone);  // 50% exactly
  EXPECT_EQ(filter({1, 1, 1, 2, 2, 2, 3, 4, 5, 6, 7}), Filter::kFrequentWords);
  EXPECT_EQ(filter({}), Filter::kNone);
  EXPECT_EQ(
      filter_of({}, std::vector<uint32_t>{1, 1}, {.most_frequent = 1, .two_most_frequent = 1}),
      Filter::kNone);
}

}  // namespace
}  // namespace lorikeet
