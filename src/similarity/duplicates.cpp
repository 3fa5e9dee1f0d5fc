#include "lorikeet/similarity/duplicates.h"

#include <algorithm>

#include "lorikeet/data/permutation.h"
#include "parallel.h"

namespace lorikeet {

namespace {

constexpr size_t kBins = 128;
constexpr size_t kValuesABand = kBins / kMinHashBands;
constexpr int kBinBits = 7;
constexpr uint64_t kEmpty = ~uint64_t{0};

// Rows that agree in a band of their MinHash. Most rows agree with none and cost nothing further.
struct Buckets {
  std::vector<std::vector<uint32_t>> of_row;  // buckets of each row
  size_t count = 0;
};

Buckets find_buckets(const std::vector<MinHashBands>& bands, const std::vector<bool>& has_bands) {
  Buckets buckets;
  buckets.of_row.resize(bands.size());
  struct Entry {
    uint32_t hash;
    uint32_t row;
  };
  std::vector<Entry> entries;
  for (size_t band = 0; band < kMinHashBands; ++band) {
    entries.clear();
    for (size_t row = 0; row < bands.size(); ++row) {
      if (has_bands[row]) {
        entries.push_back({.hash = bands[row][band], .row = static_cast<uint32_t>(row)});
      }
    }
    std::stable_sort(entries.begin(), entries.end(),
                     [](const Entry& a, const Entry& b) { return a.hash < b.hash; });
    for (size_t begin = 0, end = 0; begin < entries.size(); begin = end) {
      while (end < entries.size() && entries[end].hash == entries[begin].hash) {
        ++end;
      }
      if (end - begin > 1) {
        for (size_t i = begin; i < end; ++i) {
          buckets.of_row[entries[i].row].push_back(static_cast<uint32_t>(buckets.count));
        }
        ++buckets.count;
      }
    }
  }
  return buckets;
}

// Walks the rows in ascending order; the originals found so far stand in their buckets.
class Walk {
 public:
  using Words = std::function<void(size_t row, std::vector<uint32_t>& words)>;

  Walk(const NeighbourTable& table, const std::vector<bool>& is_kept, const DuplicateRule& rule,
       const Words& words, Buckets buckets)
      : table_(table),
        is_kept_(is_kept),
        rule_(rule),
        words_(words),
        buckets_(std::move(buckets)),
        originals_in_(buckets_.count) {
    found_.original.assign(table.num_rows(), Neighbour::kNone);
    found_.jaccard.assign(table.num_rows(), 0);
  }

  Duplicates run() {
    for (size_t row = 0; row < table_.num_rows(); ++row) {
      if (!is_kept_[row]) continue;
      compare_cosines(row);
      if (found_.original[row] == Neighbour::kNone) {
        compare_shingles(row);
      }
      if (found_.original[row] == Neighbour::kNone) {
        for (const uint32_t bucket : buckets_.of_row[row]) {
          originals_in_[bucket].push_back(static_cast<uint32_t>(row));
        }
      }
    }
    return std::move(found_);
  }

 private:
  void compare_cosines(size_t row) {
    for (const Neighbour& entry : table_.of(row)) {  // best first
      if (entry.score < rule_.cosine) {
        return;
      }
      if (entry.row < row && is_kept_[entry.row] &&
          found_.original[entry.row] == Neighbour::kNone) {
        found_.original[row] = entry.row;
        found_.jaccard[row] = static_cast<float>(jaccard(shingles(row), shingles(entry.row)));
        return;
      }
    }
  }

  void compare_shingles(size_t row) {
    std::vector<uint32_t> candidates;
    for (const uint32_t bucket : buckets_.of_row[row]) {
      candidates.insert(candidates.end(), originals_in_[bucket].begin(),
                        originals_in_[bucket].end());
    }
    if (candidates.empty()) {
      return;
    }
    std::sort(candidates.begin(), candidates.end());
    candidates.erase(std::unique(candidates.begin(), candidates.end()), candidates.end());
    const std::vector<uint64_t> own = shingles(row);
    for (const uint32_t other : candidates) {
      const double shared = jaccard(own, shingles(other));
      if (shared >= rule_.jaccard) {
        found_.original[row] = other;
        found_.jaccard[row] = static_cast<float>(shared);
        return;
      }
    }
  }

  std::vector<uint64_t> shingles(size_t row) {
    std::vector<uint32_t> words;
    words_(row, words);
    std::vector<uint64_t> found;
    shingles_of(words, found);
    return found;
  }

  const NeighbourTable& table_;
  const std::vector<bool>& is_kept_;
  const DuplicateRule& rule_;
  const Words& words_;
  Buckets buckets_;
  std::vector<std::vector<uint32_t>> originals_in_;  // per bucket
  Duplicates found_;
};

}  // namespace

void shingles_of(std::span<const uint32_t> words, std::vector<uint64_t>& shingles) {
  constexpr size_t kWords = 3;
  shingles.clear();
  for (size_t i = 0; i + kWords <= words.size() || (i == 0 && !words.empty()); ++i) {
    uint64_t hash = 0;
    for (size_t j = i; j < std::min(words.size(), i + kWords); ++j) {
      hash = mix64(hash * 3 + words[j] + 1);
    }
    shingles.push_back(hash);
  }
  std::sort(shingles.begin(), shingles.end());
  shingles.erase(std::unique(shingles.begin(), shingles.end()), shingles.end());
}

double jaccard(std::span<const uint64_t> a, std::span<const uint64_t> b) {
  size_t shared = 0;
  for (size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    if (a[i] == b[j]) {
      ++shared;
      ++i;
      ++j;
    } else {
      ++(a[i] < b[j] ? i : j);
    }
  }
  const size_t all = a.size() + b.size() - shared;
  return all == 0 ? 0 : static_cast<double>(shared) / static_cast<double>(all);
}

MinHashBands min_hash_bands(std::span<const uint64_t> shingles) {
  std::array<uint64_t, kBins> least;
  least.fill(kEmpty);
  for (const uint64_t shingle : shingles) {
    uint64_t& bin = least[shingle >> (64 - kBinBits)];
    bin = std::min(bin, shingle);
  }
  std::array<uint64_t, kBins> filled = least;
  for (size_t i = 0; i < kBins; ++i) {
    for (uint64_t attempt = 1; filled[i] == kEmpty; ++attempt) {
      filled[i] = least[derive_key({i, attempt}) >> (64 - kBinBits)];
    }
  }
  MinHashBands bands;
  for (size_t band = 0; band < kMinHashBands; ++band) {
    uint64_t hash = band;
    for (size_t i = 0; i < kValuesABand; ++i) {
      hash = mix64(hash * 3 + filled[band * kValuesABand + i]);
    }
    bands[band] = static_cast<uint32_t>(hash);
  }
  return bands;
}

Duplicates find_duplicates(
    const NeighbourTable& table, const std::vector<bool>& is_kept, const DuplicateRule& rule,
    const std::function<void(size_t row, std::vector<uint32_t>& words)>& words,
    int64_t num_threads) {
  const size_t num_rows = table.num_rows();
  std::vector<MinHashBands> bands(num_rows);
  std::vector<char> has_shingles(num_rows);  // bytes: threads write neighbouring ones
  if (rule.jaccard <= 1) {
    parallel_for_each(num_rows, num_threads, [&](size_t row, size_t) {
      std::vector<uint32_t> own;
      std::vector<uint64_t> shingles;
      words(row, own);
      shingles_of(own, shingles);
      has_shingles[row] = shingles.empty() ? 0 : 1;
      if (!shingles.empty()) {
        bands[row] = min_hash_bands(shingles);
      }
    });
  }
  Buckets buckets = find_buckets(bands, {has_shingles.begin(), has_shingles.end()});
  return Walk(table, is_kept, rule, words, std::move(buckets)).run();
}

}  // namespace lorikeet
