#include "lorikeet/data/packing.h"

#include <algorithm>

namespace lorikeet {

PackedDocuments::PackedDocuments(const Dataset& dataset, std::vector<DocumentNumber> documents,
                                 int64_t skip)
    : dataset_(&dataset), documents_(std::move(documents)) {
  begins_.reserve(documents_.size() + 1);
  begins_.push_back(-skip);
  for (const DocumentNumber number : documents_) {
    begins_.push_back(begins_.back() + dataset.document(number).num_tokens);
  }
}

int64_t PackedDocuments::num_contexts(int64_t context_length) const {
  return std::max<int64_t>(0, num_tokens() - 1) / context_length;
}

size_t PackedDocuments::document_at(int64_t position) const {
  const auto after = std::upper_bound(begins_.begin(), begins_.end(), position);
  return static_cast<size_t>(after - begins_.begin()) - 1;
}

Sequence PackedDocuments::cut(int64_t index, int64_t context_length) const {
  const int64_t begin = index * context_length;
  const int64_t end = begin + context_length + 1;
  Sequence sequence;
  sequence.tokens.resize(static_cast<size_t>(context_length + 1));
  int64_t position = begin;
  for (size_t i = document_at(begin); position < end; ++i) {
    const int64_t count = std::min(begins_[i + 1], end) - position;
    const std::span<int32_t> out(sequence.tokens.data() + (position - begin),
                                 static_cast<size_t>(count));
    dataset_->copy_tokens(documents_[i], position - begins_[i], out);
    // The token that follows is a target only, and not counted.
    const int64_t inputs = std::min(begins_[i + 1], end - 1) - position;
    if (inputs > 0) {
      sequence.document_lengths.push_back(static_cast<int32_t>(inputs));
    }
    position += count;
  }
  return sequence;
}

PackedDocuments::Rest PackedDocuments::rest(int64_t position) const {
  if (position >= num_tokens()) {
    return {};
  }
  const size_t first = document_at(position);
  return {.documents = {documents_.begin() + static_cast<int64_t>(first), documents_.end()},
          .skip = position - begins_[first]};
}

}  // namespace lorikeet
