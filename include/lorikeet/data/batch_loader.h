#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lorikeet/data/sequence_stream.h"

namespace lorikeet {

struct LoaderOptions {
  int64_t context_length = 1024;
  int64_t seed = 1;
  std::string order = "random";             ///< random | similarity | path of an order file
  std::vector<MixtureWeight> mixture = {};  ///< see DocumentOrder
  /// From this sequence on the data starts over in another shuffle (the anneal phase); -1: never.
  int64_t reshuffle_at = -1;
};

/// The training data as an endless row of sequences. Sequence i is a pure function of (options,
/// dataset fingerprint, i): not of batch size, world size or what was read before. So the only
/// state is the number of sequences consumed, and slicing a batch over ranks is the caller's. Not
/// thread-safe.
class BatchLoader {
 public:
  /// The dataset must outlive the loader.
  /// @throws Error(kData) where an epoch does not fill one context; see DocumentOrder for the
  /// others
  BatchLoader(const Dataset& dataset, const LoaderOptions& options);

  /// Of the dataset and, where a file orders its documents, of that order.
  uint64_t fingerprint() const { return fingerprint_; }

  /// @param index  of the sequence, from 0. Fast for indices of one epoch; a change of epoch builds
  /// its
  ///     index, O(documents).
  Sequence get(int64_t index);

  /// The next n sequences; moves position() on.
  std::vector<Sequence> next(int64_t n);
  int64_t position() const { return position_; }
  void seek(int64_t sequences_consumed) { position_ = sequences_consumed; }

  /// Sequences of the first epoch.
  int64_t sequences_per_epoch() const { return streams_[0].sequences_before(1); }
  /// @throws Error(kData) where the first epoch does not fill one batch
  void require_batch(int64_t batch_sequences) const;
  /// Another place for LoaderOptions::reshuffle_at, of a loader that was given one.
  void move_reshuffle(int64_t index);
  /// Epochs begun before this sequence; after a reshuffle they count from 0 again.
  int64_t epoch_of(int64_t index) const;

 private:
  bool is_reshuffled(int64_t index) const;

  std::string folder_;
  uint64_t fingerprint_;
  int64_t context_length_;
  int64_t reshuffle_at_;
  int64_t position_ = 0;
  std::vector<SequenceStream> streams_;  ///< before and after the reshuffle
};

}  // namespace lorikeet
