#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "lorikeet/similarity/neighbours.h"

namespace lorikeet {

/// Hashes of every three words in a row, ascending, each once; of all words where there are fewer.
void shingles_of(std::span<const uint32_t> words, std::vector<uint64_t>& shingles);

/// Shared elements over all elements of two ascending sets; 0 where both are empty.
double jaccard(std::span<const uint64_t> a, std::span<const uint64_t> b);

inline constexpr size_t kMinHashBands = 16;
/// A document's MinHash in 16 bands of 8 values, each band hashed. Documents with Jaccard
/// similarity J agree in a band with probability about 1 - (1 - J^8)^16: 0.994 at 0.85, 0.06 at
/// 0.5.
using MinHashBands = std::array<uint32_t, kMinHashBands>;

/// MinHash by one permutation in 128 bins, empty ones filled as in Shrivastava, Optimal
/// Densification for Fast and Accurate Minwise Hashing (2017).
/// @param shingles  at least one
MinHashBands min_hash_bands(std::span<const uint64_t> shingles);

struct DuplicateRule {
  double cosine = 0.95;   ///< at least this alike in the encoder's vectors; above 1: not compared
  double jaccard = 0.85;  ///< at least so many of their word 3-grams shared; above 1: not compared
};

struct Duplicates {
  std::vector<uint32_t> original;  ///< per row: the earlier row it repeats, or Neighbour::kNone
  std::vector<float> jaccard;      ///< per row, of the pair; 0 for rows that repeat none
};

/// Rows that repeat an earlier row which repeats none itself. Pairs come from the neighbour lists
/// and from MinHash, and are compared exactly; a pair that neither gives is missed, so what is left
/// is free of the duplicates that were found, not of all.
/// @param is_kept  rows that are looked at; others neither repeat nor are repeated
/// @param words  appends a row's word hashes; called from several threads
Duplicates find_duplicates(
    const NeighbourTable& table, const std::vector<bool>& is_kept, const DuplicateRule& rule,
    const std::function<void(size_t row, std::vector<uint32_t>& words)>& words,
    int64_t num_threads);

}  // namespace lorikeet
