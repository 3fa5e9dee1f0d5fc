#pragma once
#include <cmath>
#include <limits>

#include "attention_blocks.h"
#include "level.h"

namespace lorikeet::ops::cpu {

/// Attention's forward over one head: for each block of queries, blocks of keys one after the
/// other, with the softmax's maxima and sums carried along. L tokens, H head size; causal, or every
/// query sees every key.
template <class T>
class AttentionHead {
 public:
  static int64_t scratch_bytes(int64_t L, int64_t H) {
    return KeyRows<T>::scratch_bytes(H) + Scratch::bytes<T>(H * round_up(L, kKeyBlock)) +
           Scratch::bytes<T>(H * kQueryBlock) + Scratch::bytes<T>(kKeyBlock * kQueryBlock) +
           Scratch::bytes<float>(std::max(kKeyBlock * kQueryBlock, 2 * kKeyBlock * H)) +
           2 * Scratch::bytes<float>(H * kQueryBlock) + 3 * Scratch::bytes<float>(kQueryBlock);
  }

  AttentionHead(int64_t L, int64_t H, bool is_causal, Scratch scratch)
      : kernels_(*level().kernels),
        L_(L),
        H_(H),
        is_causal_(is_causal),
        scale_(1 / std::sqrt(static_cast<float>(H))),
        keys_(L, H, scratch),
        values_(scratch.take<T>(H * round_up(L, kKeyBlock))),
        queries_(scratch.take<T>(H * kQueryBlock)),
        weights_(scratch.take<T>(kKeyBlock * kQueryBlock)),
        scores_(scratch.take<float>(std::max(kKeyBlock * kQueryBlock, 2 * kKeyBlock * H))),
        y_(scratch.take<float>(H * kQueryBlock)),
        turned_(scratch.take<float>(H * kQueryBlock)),
        largest_(scratch.take<float>(kQueryBlock)),
        sums_(scratch.take<float>(kQueryBlock)),
        kept_(scratch.take<float>(kQueryBlock)) {}

  /// Before run(), which may follow more than once.
  void set_keys(const Head<T>& k, const Head<T>& v) {
    keys_.set(k);
    transpose_tokens(kernels_, v, L_, H_, values_, scores_);
  }

  /// @param y rows to write @param lse [L], or null
  void run(const Head<T>& q, const Head<T>& y, float* lse) {
    for (int64_t q0 = 0; q0 < L_; q0 += kQueryBlock) {
      const int64_t count = std::min(kQueryBlock, L_ - q0), W = round_up(count, kWidth);
      pack_columns(kernels_, q.row(q0), q.stride, H_,
                   {.row = q0, .count = count, .column = q0, .width = W}, queries_);
      std::fill_n(largest_, W, -std::numeric_limits<float>::infinity());
      std::fill_n(sums_, W, 0.0f);
      const int64_t seen = is_causal_ ? q0 + count : L_;
      for (int64_t k0 = 0; k0 < seen; k0 += kKeyBlock) add_keys(k0, q0, W);
      for (int64_t i = 0; i < W; ++i) kept_[i] = 1 / sums_[i];
      kernels_.scale_columns(H_, W, kept_, y_);
      kernels_.transpose(H_, W, reinterpret_cast<const uint32_t*>(y_), W,
                         reinterpret_cast<uint32_t*>(turned_), H_);
      for (int64_t i = 0; i < count; ++i) {
        store_row(kernels_, H_, turned_ + i * H_, y.row(q0 + i));
        if (lse != nullptr) lse[q0 + i] = largest_[i] + std::log(sums_[i]);
      }
    }
  }

 private:
  /// y [H, W] so far, with one block of keys more.
  void add_keys(int64_t k0, int64_t q0, int64_t W) {
    const Head<T> k = keys_.block(k0);
    const int64_t keys = keys_.rows(k0);
    multiply({keys, W, H_, k.stride, W, W, false}, k.data, queries_, scores_);
    mask(k0, keys, q0, W, -std::numeric_limits<float>::infinity());
    kernels_.softmax_step(keys, W, scale_, scores_, largest_, sums_, kept_);
    mask(k0, keys, q0, W, 0.0f);
    store_depth(kernels_, keys, W, scores_, weights_);
    if (k0 > 0) kernels_.scale_columns(H_, W, kept_, y_);
    multiply({H_, W, keys, kKeyBlock, W, W, k0 > 0}, values_ + k0 * H_, weights_, y_);
  }

  /// Sets the scores of keys that a query must not see: later ones, and those beyond L.
  void mask(int64_t k0, int64_t keys, int64_t q0, int64_t W, float value) {
    if (is_causal_) {
      mask_later_keys(k0, keys, q0, W, value, scores_);
    } else if (k0 + keys > L_) {
      std::fill(scores_ + (L_ - k0) * W, scores_ + keys * W, value);
    }
  }

  const VectorKernels& kernels_;
  const int64_t L_, H_;
  const bool is_causal_;
  const float scale_;
  KeyRows<T> keys_;
  T *values_, *queries_, *weights_;
  float *scores_, *y_, *turned_, *largest_, *sums_, *kept_;
};

}  // namespace lorikeet::ops::cpu
