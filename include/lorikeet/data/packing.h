#pragma once
#include <cstdint>
#include <vector>

#include "lorikeet/data/dataset.h"

namespace lorikeet {

/// One training sequence: L inputs and the token that follows them.
struct Sequence {
  std::vector<int32_t> tokens;            ///< L + 1: inputs are the first L, targets the last L
  std::vector<int32_t> document_lengths;  ///< parts of documents among the first L; sum L
};

/// Documents laid one behind the other, to be cut into contexts of L inputs each. Context i holds
/// the tokens [i L, i L + L]: neighbours share one token, so every token is an input once and (but
/// for the very first) a target once.
class PackedDocuments {
 public:
  /// @param skip  tokens of the first document that are left out, since an earlier row used them
  PackedDocuments(const Dataset& dataset, std::vector<DocumentNumber> documents, int64_t skip = 0);

  int64_t num_tokens() const { return begins_.back(); }
  /// Whole contexts, the token that follows included.
  int64_t num_contexts(int64_t context_length) const;
  /// @param index below num_contexts(context_length)
  Sequence cut(int64_t index, int64_t context_length) const;

  /// What stands behind `position`: documents, and the tokens of the first one to skip.
  struct Rest {
    std::vector<DocumentNumber> documents;
    int64_t skip = 0;
  };
  Rest rest(int64_t position) const;

 private:
  size_t document_at(int64_t position) const;

  const Dataset* dataset_;
  std::vector<DocumentNumber> documents_;
  std::vector<int64_t> begins_;  ///< of each document in the row, and the end; the first is -skip
};

}  // namespace lorikeet
