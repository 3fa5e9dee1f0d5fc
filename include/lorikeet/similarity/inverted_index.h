#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "lorikeet/similarity/neighbours.h"
#include "lorikeet/similarity/term_vectors.h"

namespace lorikeet {

/// Searches sparse vectors by cosine. For each term it lists the documents in which the term is
/// heaviest, `max_postings` at most (champion lists; Manning et al., Introduction to Information
/// Retrieval, section 7.1.3): that bounds a search however large the corpus is. What the lists find
/// is scored again with whole vectors, so scores are exact and only a neighbour can be missed.
class InvertedIndex {
 public:
  /// Of the rows first .. last - 1. The vectors must outlive the index.
  InvertedIndex(const TermVectorSet& vectors, size_t first, size_t last, size_t num_terms,
                size_t max_postings);

  /// A thread's own memory between searches.
  class Scratch {
    friend InvertedIndex;
    std::vector<float> sums_;
    std::vector<uint32_t> touched_;
    std::vector<Neighbour> found_;
  };
  /// The best k rows but `own` with a score above 0, best first.
  void search(const TermVector& query, uint32_t own, size_t k, Scratch& scratch,
              std::vector<Neighbour>& found) const;

 private:
  struct Posting {
    uint32_t row;  ///< from first_
    float weight;
  };
  void shorten(size_t max_postings);

  const TermVectorSet& vectors_;
  size_t first_;
  size_t num_rows_;
  std::vector<uint64_t> begins_;  ///< per term, and the end
  std::vector<uint32_t> sizes_;   ///< per term: how many of its postings are used
  std::vector<Posting> postings_;
};

}  // namespace lorikeet
