#pragma once
#include <algorithm>
#include <cstddef>
#include <vector>

#include "lorikeet/data/dataset.h"

namespace lorikeet {

/// The training documents of a dataset as rows, cut into the blocks that stages write files of.
struct Corpus {
  static constexpr size_t kBlockRows = 16384;

  explicit Corpus(const Dataset& dataset, size_t block_rows = kBlockRows)
      : dataset(&dataset), documents(dataset.documents(Split::kTrain)), block_rows(block_rows) {}

  const Dataset* dataset;
  std::vector<DocumentNumber> documents;  ///< per row, ascending
  size_t block_rows;

  size_t num_rows() const { return documents.size(); }
  size_t num_blocks() const { return (num_rows() + block_rows - 1) / block_rows; }
  size_t first_row(size_t block) const { return std::min(num_rows(), block * block_rows); }
  std::vector<int32_t> tokens(size_t row) const { return dataset->tokens(documents[row]); }
  DocumentInfo info(size_t row) const { return dataset->document(documents[row]); }
};

}  // namespace lorikeet
