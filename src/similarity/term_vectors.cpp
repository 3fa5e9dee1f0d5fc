#include "lorikeet/similarity/term_vectors.h"

#include <algorithm>
#include <cmath>

namespace lorikeet {

namespace {
constexpr double kK1 = 1.2;
constexpr double kB = 0.75;

struct Weighted {
  uint32_t term;
  double weight;
};

void keep_heaviest(std::vector<Weighted>& found, size_t num_terms) {
  const auto is_heavier = [](const Weighted& a, const Weighted& b) {
    return a.weight != b.weight ? a.weight > b.weight : a.term < b.term;
  };
  if (found.size() > num_terms) {
    std::nth_element(found.begin(), found.begin() + static_cast<int64_t>(num_terms), found.end(),
                     is_heavier);
    found.resize(num_terms);
  }
  std::sort(found.begin(), found.end(),
            [](const Weighted& a, const Weighted& b) { return a.term < b.term; });
}

}  // namespace

void count_terms(std::vector<uint32_t>& words, std::vector<TermCount>& counts) {
  counts.clear();
  std::sort(words.begin(), words.end());
  for (const uint32_t word : words) {
    if (counts.empty() || counts.back().term != word) {
      counts.push_back({.term = word});
    }
    ++counts.back().count;
  }
}

int64_t Vocabulary::row_of(uint32_t term) const {
  const auto found = std::lower_bound(terms.begin(), terms.end(), term);
  return found == terms.end() || *found != term ? kUnknown : found - terms.begin();
}

TermVector TermVectorBlock::of(size_t row) const {
  const size_t count = begins[row + 1] - begins[row];
  return {.terms = terms.subspan(begins[row], count),
          .weights = weights.subspan(begins[row], count)};
}

void TermVectorSet::add(const TermVectorBlock& block) {
  if (blocks_.empty()) {
    rows_a_block_ = std::max<size_t>(1, block.num_rows());
  }
  blocks_.push_back(block);
  num_rows_ += block.num_rows();
}

float dot(const TermVector& a, const TermVector& b) {
  float sum = 0;
  size_t i = 0;
  size_t j = 0;
  while (i < a.terms.size() && j < b.terms.size()) {
    if (a.terms[i] == b.terms[j]) {
      sum += a.weights[i++] * b.weights[j++];
    } else {
      ++(a.terms[i] < b.terms[j] ? i : j);
    }
  }
  return sum;
}

void append_bm25_vector(const Vocabulary& vocabulary, std::span<const TermCount> counts,
                        size_t num_terms, TermVectors& vectors) {
  double length = 0;
  for (const TermCount& entry : counts) {
    length += entry.count;
  }
  const double saturation = kK1 * (1 - kB + kB * length / vocabulary.mean_length);
  const auto total = static_cast<double>(vocabulary.num_documents);
  std::vector<Weighted> found;
  for (const TermCount& entry : counts) {
    const int64_t row = vocabulary.row_of(entry.term);
    if (row == Vocabulary::kUnknown) {
      continue;
    }
    const double frequency = vocabulary.frequencies[static_cast<size_t>(row)];
    const double rarity = std::log(1 + (total - frequency + 0.5) / (frequency + 0.5));
    found.push_back({.term = static_cast<uint32_t>(row),
                     .weight = rarity * entry.count * (kK1 + 1) / (entry.count + saturation)});
  }
  keep_heaviest(found, num_terms);
  double square = 0;
  for (const Weighted& entry : found) {
    square += entry.weight * entry.weight;
  }
  const double scale = found.empty() ? 0 : 1 / std::sqrt(square);
  for (const Weighted& entry : found) {
    vectors.terms.push_back(entry.term);
    vectors.weights.push_back(static_cast<float>(entry.weight * scale));
  }
  vectors.begins.push_back(vectors.terms.size());
}

}  // namespace lorikeet
