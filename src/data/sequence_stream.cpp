#include "lorikeet/data/sequence_stream.h"

#include <algorithm>

namespace lorikeet {

namespace {
constexpr uint64_t kContextShuffle = 3;
}

SequenceStream::SequenceStream(const Dataset& dataset, DocumentOrder order, int64_t context_length,
                               uint64_t key)
    : dataset_(&dataset), order_(std::move(order)), context_length_(context_length), key_(key) {
  if (sequences_before(1) < 1) {
    throw Error(ExitCode::kData,
                fmt::format("{}: an epoch of {} training tokens does not fill one context of {} "
                            "tokens and the one that follows",
                            dataset.folder(), order_.cumulative_tokens(1), context_length),
                "use more text, or a smaller model.context_length");
  }
}

int64_t SequenceStream::sequences_before(int64_t epoch) const {
  return std::max<int64_t>(0, order_.cumulative_tokens(epoch) - 1) / context_length_;
}

int64_t SequenceStream::epoch_of(int64_t index) const {
  if (current_ && index >= current_->first_sequence &&
      index < current_->first_sequence + static_cast<int64_t>(current_->shuffle.size())) {
    return current_->number;
  }
  int64_t after = 1;  // an epoch that begins behind the sequence
  while (sequences_before(after) <= index) {
    after *= 2;
  }
  int64_t epoch = 0;
  while (after - epoch > 1) {
    const int64_t middle = epoch + (after - epoch) / 2;
    (sequences_before(middle) <= index ? epoch : after) = middle;
  }
  return epoch;
}

PackedDocuments::Rest SequenceStream::carried_into(int64_t epoch) const {
  int64_t missing = order_.cumulative_tokens(epoch) - sequences_before(epoch) * context_length_;
  PackedDocuments::Rest rest;
  for (int64_t earlier = epoch - 1; missing > 0; --earlier) {
    const std::vector<DocumentNumber> documents = order_.epoch(earlier);
    for (size_t i = documents.size(); i > 0 && missing > 0; --i) {
      rest.documents.push_back(documents[i - 1]);
      missing -= dataset_->document(documents[i - 1]).num_tokens;
    }
  }
  std::reverse(rest.documents.begin(), rest.documents.end());
  rest.skip = -missing;
  return rest;
}

void SequenceStream::open(int64_t epoch) {
  PackedDocuments::Rest row;
  if (current_ && current_->number + 1 == epoch) {
    const int64_t used = static_cast<int64_t>(current_->shuffle.size()) * context_length_;
    row = current_->documents.rest(used);
  } else {
    row = carried_into(epoch);
  }
  const std::vector<DocumentNumber> documents = order_.epoch(epoch);
  row.documents.insert(row.documents.end(), documents.begin(), documents.end());
  const int64_t begin = sequences_before(epoch);
  const uint64_t count = static_cast<uint64_t>(sequences_before(epoch + 1) - begin);
  current_.emplace(Epoch{
      .number = epoch,
      .first_sequence = begin,
      .documents = PackedDocuments(*dataset_, std::move(row.documents), row.skip),
      .shuffle =
          Permutation(count, derive_key({key_, kContextShuffle, static_cast<uint64_t>(epoch)}))});
}

Sequence SequenceStream::get(int64_t index) {
  const int64_t epoch = epoch_of(index);
  if (!current_ || current_->number != epoch) {
    open(epoch);
  }
  const uint64_t place = static_cast<uint64_t>(index - current_->first_sequence);
  return current_->documents.cut(static_cast<int64_t>(current_->shuffle(place)), context_length_);
}

}  // namespace lorikeet
