#include "lorikeet/similarity/filters.h"

#include <algorithm>
#include <array>
#include <vector>

namespace lorikeet {

namespace {

// How often the two most frequent words stand there.
std::array<size_t, 2> most_frequent(std::span<const uint32_t> words) {
  std::vector<uint32_t> sorted(words.begin(), words.end());
  std::sort(sorted.begin(), sorted.end());
  std::array<size_t, 2> most = {0, 0};
  for (size_t begin = 0, end = 0; begin < sorted.size(); begin = end) {
    while (end < sorted.size() && sorted[end] == sorted[begin]) ++end;
    const size_t count = end - begin;
    if (count > most[0]) {
      most = {count, most[0]};
    } else {
      most[1] = std::max(most[1], count);
    }
  }
  return most;
}

}  // namespace

std::string_view describe(Filter filter) {
  switch (filter) {
    case Filter::kNone:
      return "nothing";
    case Filter::kRepetition:
      return "the same tokens in a row";
    case Filter::kFrequentWord:
      return "an over-frequent word";
    case Filter::kFrequentWords:
      return "two over-frequent words";
  }
  return "";
}

int64_t longest_repetition(std::span<const int32_t> tokens, int64_t longest) {
  const auto count = static_cast<int64_t>(tokens.size());
  int64_t most = std::min<int64_t>(1, count);
  for (int64_t length = 1; length <= std::min(longest, count / 2); ++length) {
    int64_t equal = 0;  // tokens in a row that are those `length` before them
    for (int64_t i = length; i < count; ++i) {
      equal =
          tokens[static_cast<size_t>(i)] == tokens[static_cast<size_t>(i - length)] ? equal + 1 : 0;
      most = std::max(most, 1 + equal / length);
    }
  }
  return most;
}

Filter filter_of(std::span<const int32_t> tokens, std::span<const uint32_t> words,
                 const FilterRule& rule) {
  if (rule.repetitions > 0 &&
      longest_repetition(tokens, rule.longest_repeated) >= rule.repetitions) {
    return Filter::kRepetition;
  }
  const auto all = static_cast<double>(words.size());
  const auto [first, second] = most_frequent(words);
  if (static_cast<double>(first) > rule.most_frequent * all) {
    return Filter::kFrequentWord;
  }
  if (static_cast<double>(first + second) > rule.two_most_frequent * all) {
    return Filter::kFrequentWords;
  }
  return Filter::kNone;
}

}  // namespace lorikeet
