#pragma once
#include <cstdint>
#include <span>
#include <string_view>

namespace lorikeet {

/// Why a document is not worth training on.
enum class Filter : uint32_t {
  kNone,           ///< nothing against it
  kRepetition,     ///< a few tokens again and again
  kFrequentWord,   ///< one word makes up too much of it
  kFrequentWords,  ///< two words do
};
inline constexpr uint32_t kNumFilters = 4;

/// As a report names it.
std::string_view describe(Filter filter);

/// What OLMoE (Muennighoff et al., arXiv 2409.02060, section 2) leaves out: of all its documents
/// those that repeat themselves, of its code those with over-frequent words. Here both are asked of
/// all.
struct FilterRule {
  int64_t repetitions = 32;        ///< at least so often in a row; 0: not asked
  int64_t longest_repeated = 13;   ///< tokens of what is repeated, at most
  double most_frequent = 0.3;      ///< above this share of all words; 1: not asked
  double two_most_frequent = 0.5;  ///< the same for the two most frequent together
};

/// How often a stretch of 1 to `longest` tokens stands in a row, at most: 1 where nothing is
/// repeated, 0 for no tokens. O(tokens x longest).
int64_t longest_repetition(std::span<const int32_t> tokens, int64_t longest);

/// The first rule that a document breaks.
/// @param tokens  with those around the document
/// @param words   hashes of its words
Filter filter_of(std::span<const int32_t> tokens, std::span<const uint32_t> words,
                 const FilterRule& rule);

}  // namespace lorikeet
