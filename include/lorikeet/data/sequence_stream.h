#pragma once
#include <cstdint>
#include <memory>
#include <optional>

#include "lorikeet/data/document_order.h"
#include "lorikeet/data/packing.h"
#include "lorikeet/data/permutation.h"

namespace lorikeet {

/// An endless row of training sequences: epoch after epoch, documents are ordered, packed, cut into
/// contexts, and the contexts of an epoch are shuffled. Any sequence can be asked for directly.
///
/// The tokens behind an epoch's last whole context (1 .. L of them) start the next epoch's row:
/// nothing is dropped and nothing is padded. A context belongs to the epoch in which its last token
/// lies.
class SequenceStream {
 public:
  SequenceStream(const Dataset& dataset, DocumentOrder order, int64_t context_length, uint64_t key);

  /// Builds the index of the sequence's epoch where it is not the last one asked for: O(documents).
  Sequence get(int64_t index);
  int64_t epoch_of(int64_t index) const;
  /// Sequences in the epochs before `epoch`.
  int64_t sequences_before(int64_t epoch) const;

 private:
  struct Epoch {
    int64_t number;
    int64_t first_sequence;
    PackedDocuments documents;
    Permutation shuffle;
  };
  PackedDocuments::Rest carried_into(int64_t epoch) const;
  void open(int64_t epoch);

  const Dataset* dataset_;
  DocumentOrder order_;
  int64_t context_length_;
  uint64_t key_;
  std::optional<Epoch> current_;
};

}  // namespace lorikeet
