#include "lorikeet/similarity/inverted_index.h"

#include <algorithm>

namespace lorikeet {

namespace {
// How many times k candidates are scored again: sums over shortened lists rank them only roughly.
constexpr size_t kCandidates = 3;
}  // namespace

InvertedIndex::InvertedIndex(const TermVectorSet& vectors, size_t first, size_t last,
                             size_t num_terms, size_t max_postings)
    : vectors_(vectors), first_(first), num_rows_(last - first), begins_(num_terms + 1) {
  for (size_t row = first; row < last; ++row) {
    for (const uint32_t term : vectors.of(row).terms) {
      ++begins_[term + 1];
    }
  }
  for (size_t term = 0; term < num_terms; ++term) {
    begins_[term + 1] += begins_[term];
  }
  postings_.resize(begins_.back());
  sizes_.assign(num_terms, 0);
  for (size_t row = 0; row < num_rows_; ++row) {
    const TermVector vector = vectors.of(first + row);
    for (size_t i = 0; i < vector.terms.size(); ++i) {
      const uint32_t term = vector.terms[i];
      postings_[begins_[term] + sizes_[term]++] = {.row = static_cast<uint32_t>(row),
                                                   .weight = vector.weights[i]};
    }
  }
  shorten(max_postings);
}

void InvertedIndex::shorten(size_t max_postings) {
  for (size_t term = 0; term < sizes_.size(); ++term) {
    if (sizes_[term] <= max_postings) {
      continue;
    }
    const auto begin = postings_.begin() + static_cast<int64_t>(begins_[term]);
    const auto cut = begin + static_cast<int64_t>(max_postings);
    std::nth_element(begin, cut, begin + sizes_[term], [](const Posting& a, const Posting& b) {
      return a.weight != b.weight ? a.weight > b.weight : a.row < b.row;
    });
    std::sort(begin, cut, [](const Posting& a, const Posting& b) { return a.row < b.row; });
    sizes_[term] = static_cast<uint32_t>(max_postings);
  }
}

void InvertedIndex::search(const TermVector& query, uint32_t own, size_t k, Scratch& scratch,
                           std::vector<Neighbour>& found) const {
  scratch.sums_.resize(num_rows_);
  scratch.touched_.clear();
  for (size_t i = 0; i < query.terms.size(); ++i) {
    const Posting* posting = postings_.data() + begins_[query.terms[i]];
    const Posting* end = posting + sizes_[query.terms[i]];
    for (; posting != end; ++posting) {
      float& sum = scratch.sums_[posting->row];
      if (sum == 0) {
        scratch.touched_.push_back(posting->row);
      }
      sum += query.weights[i] * posting->weight;
    }
  }
  // Far more rows are touched than are wanted: what is worse than the best so far is passed over.
  const size_t wanted = kCandidates * k;
  float least = 0;
  scratch.found_.clear();
  for (const uint32_t row : scratch.touched_) {
    const float score = scratch.sums_[row];
    scratch.sums_[row] = 0;
    if (score < least || first_ + row == own) {
      continue;
    }
    scratch.found_.push_back({.row = row, .score = score});
    if (scratch.found_.size() == 2 * wanted) {
      keep_best(scratch.found_, wanted);
      least = scratch.found_.back().score;
    }
  }
  keep_best(scratch.found_, wanted);
  found.clear();
  for (const Neighbour& candidate : scratch.found_) {
    const size_t row = first_ + candidate.row;
    found.push_back({.row = static_cast<uint32_t>(row), .score = dot(query, vectors_.of(row))});
  }
  keep_best(found, k);
}

}  // namespace lorikeet
