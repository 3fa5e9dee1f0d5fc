#include "lorikeet/data/batch_loader.h"

#include <utility>

namespace lorikeet {

BatchLoader::BatchLoader(const Dataset& dataset, const LoaderOptions& options)
    : folder_(dataset.folder()),
      fingerprint_(dataset.fingerprint()),
      context_length_(options.context_length),
      reshuffle_at_(options.reshuffle_at) {
  const uint64_t num_phases = reshuffle_at_ >= 0 ? 2 : 1;
  for (uint64_t phase = 0; phase < num_phases; ++phase) {
    const uint64_t key =
        derive_key({static_cast<uint64_t>(options.seed), dataset.fingerprint(), phase});
    DocumentOrder order(dataset, options.order, options.mixture, key);
    const uint64_t file = phase == 0 ? order.fingerprint() : 0;  // the same in either phase
    if (file != 0) fingerprint_ = derive_key({dataset.fingerprint(), file});
    streams_.emplace_back(dataset, std::move(order), context_length_, key);
  }
}

bool BatchLoader::is_reshuffled(int64_t index) const {
  return reshuffle_at_ >= 0 && index >= reshuffle_at_;
}

void BatchLoader::move_reshuffle(int64_t index) { reshuffle_at_ = index; }

Sequence BatchLoader::get(int64_t index) {
  return is_reshuffled(index) ? streams_[1].get(index - reshuffle_at_) : streams_[0].get(index);
}

std::vector<Sequence> BatchLoader::next(int64_t n) {
  std::vector<Sequence> sequences;
  sequences.reserve(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    sequences.push_back(get(position_ + i));
  }
  position_ += n;
  return sequences;
}

void BatchLoader::require_batch(int64_t batch_sequences) const {
  if (sequences_per_epoch() < batch_sequences) {
    throw Error(ExitCode::kData,
                fmt::format("{}: an epoch has {} contexts of {} tokens, fewer than "
                            "train.batch_sequences {}",
                            folder_, sequences_per_epoch(), context_length_, batch_sequences),
                "use more text, a smaller batch or a smaller model.context_length");
  }
}

int64_t BatchLoader::epoch_of(int64_t index) const {
  return is_reshuffled(index) ? streams_[1].epoch_of(index - reshuffle_at_)
                              : streams_[0].epoch_of(index);
}

}  // namespace lorikeet
