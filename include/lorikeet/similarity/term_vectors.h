#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace lorikeet {

/// A word of a document and how often it stands there, or its weight.
struct TermCount {
  uint32_t term = 0;
  uint32_t count = 0;
};

/// The words of a document, counted, by ascending hash.
void count_terms(std::vector<uint32_t>& words, std::vector<TermCount>& counts);

/// The words of a corpus that stand in at least two documents: others cannot join any.
struct Vocabulary {
  std::vector<uint32_t> terms;        ///< hashes, ascending; their rows are what vectors hold
  std::vector<uint32_t> frequencies;  ///< in how many documents each stands
  uint64_t num_documents = 0;
  double mean_length = 0;  ///< words a document

  static constexpr int64_t kUnknown = -1;
  int64_t row_of(uint32_t term) const;
};

/// One document's words and weights, by ascending word.
struct TermVector {
  std::span<const uint32_t> terms;  ///< rows of the vocabulary
  std::span<const float> weights;
};

/// Consecutive rows of sparse vectors, somewhere in memory.
struct TermVectorBlock {
  std::span<const uint64_t> begins;  ///< rows + 1, from 0
  std::span<const uint32_t> terms;
  std::span<const float> weights;

  size_t num_rows() const { return begins.size() - 1; }
  TermVector of(size_t row) const;
};

/// A block with memory of its own.
struct TermVectors {
  std::vector<uint64_t> begins = {0};
  std::vector<uint32_t> terms;
  std::vector<float> weights;

  TermVectorBlock block() const { return {begins, terms, weights}; }
};

/// Blocks of equally many rows (the last may be shorter), behind each other.
class TermVectorSet {
 public:
  void add(const TermVectorBlock& block);
  size_t num_rows() const { return num_rows_; }
  TermVector of(size_t row) const { return blocks_[row / rows_a_block_].of(row % rows_a_block_); }

 private:
  std::vector<TermVectorBlock> blocks_;
  size_t rows_a_block_ = 1;
  size_t num_rows_ = 0;
};

/// The cosine of two vectors of length one. dot(a, b) == dot(b, a), bit for bit.
float dot(const TermVector& a, const TermVector& b);

/// BM25 (Robertson and Zaragoza, The Probabilistic Relevance Framework, 2009, eq. 3.15), k1 = 1.2,
/// b = 0.75, of the document's `num_terms` heaviest words, scaled to length one; words outside the
/// vocabulary are left out. A document without known words gets an empty vector.
void append_bm25_vector(const Vocabulary& vocabulary, std::span<const TermCount> counts,
                        size_t num_terms, TermVectors& vectors);

}  // namespace lorikeet
