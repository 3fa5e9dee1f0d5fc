#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

// What one sequence keeps between calls of LanguageModelImpl::extend, so that each new token costs
// one token's work.

namespace lorikeet {

/// How merged layers are routed while a sequence is written.
enum class GenerationRouting {
  kPrompt,   ///< one decision a layer, from the mean over the whole prompt; merged once, then fixed
             ///< (Lory, arXiv 2405.03133, inference)
  kSegment,  ///< as in training: merged anew at each segment's border
};

/// The keys and values of the tokens so far, [1, K, tokens, H]. The memory behind them doubles when
/// it is full.
class KeyValueCache {
 public:
  void append(const at::Tensor& k_BKLH, const at::Tensor& v_BKLH);
  at::Tensor keys() const { return keys_.narrow(2, 0, length_); }
  at::Tensor values() const { return values_.narrow(2, 0, length_); }
  int64_t length() const { return length_; }
  int64_t capacity() const { return keys_.defined() ? keys_.size(2) : 0; }

 private:
  at::Tensor keys_, values_;  // [1, K, capacity, H]
  int64_t length_ = 0;
};

/// What a feed-forward layer keeps: a kind that needs something derives its own.
struct FeedForwardState {
  virtual ~FeedForwardState() = default;
};

struct LayerState {
  KeyValueCache cache;
  std::unique_ptr<FeedForwardState> feed_forward;  ///< null: every token is treated alone
};

/// A sequence in the making: see LanguageModelImpl::start_sequence.
struct SequenceState {
  std::vector<LayerState> layers;
  int64_t length = 0;  ///< tokens so far
};

}  // namespace lorikeet
