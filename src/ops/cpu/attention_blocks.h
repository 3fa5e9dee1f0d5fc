#pragma once
// What attention's forward and backward share. L tokens, H head size, W a block's queries with
// padding.
#include <ATen/ATen.h>

#include <algorithm>

#include "blocks.h"
#include "kernels.h"
#include "level.h"
#include "pack.h"
#include "product.h"
#include "workers.h"

namespace lorikeet::ops::cpu {

/// Keys and queries of a block of scores; widths are rounded up to kWidth.
inline constexpr int64_t kKeyBlock = 64, kQueryBlock = 128, kWidth = kWidthStep;

/// One head of a [B, heads, L, H] tensor: its tokens' rows.
template <class T>
struct Head {
  T* data;
  int64_t stride;
  T* row(int64_t i) const { return data + i * stride; }
};
template <class T, class Tensor>
Head<T> head_of(const Tensor& t, int64_t b, int64_t a) {
  auto* const data = static_cast<T*>(const_cast<void*>(t.const_data_ptr()));
  return {data + b * t.stride(0) + a * t.stride(1), t.stride(2)};
}

/// Whether bf16 is widened first, for want of a bf16 product.
inline bool is_done_in_fp32(const at::Tensor& q) {
  return q.scalar_type() == at::kBFloat16 && computes_bf16_in_fp32(q.size(3), q.size(3));
}

/// Rows of H numbers as the kernels read them: whole, apart from one another, and beginning at
/// whole 32 bits.
inline at::Tensor with_readable_rows(const at::Tensor& t) {
  const int64_t unit = t.element_size() == 2 ? 2 : 1;
  bool is_readable = t.stride(3) == 1 && t.stride(2) >= t.size(3) && t.storage_offset() % unit == 0;
  for (int64_t i = 0; i < 3; ++i) is_readable = is_readable && t.stride(i) % unit == 0;
  return is_readable ? t : t.clone(at::MemoryFormat::Contiguous);
}

/// One head's keys or values a block at a time, as left operands of products over features. A last,
/// partial block is a copy with rows of zeros up to a multiple of kWidth.
template <class T>
class KeyRows {
 public:
  static int64_t scratch_bytes(int64_t H) { return Scratch::bytes<T>(kKeyBlock * H); }
  KeyRows(int64_t L, int64_t H, Scratch& scratch)
      : last_(L / kKeyBlock * kKeyBlock),
        count_(L - last_),
        H_(H),
        copy_{scratch.take<T>(kKeyBlock * H), H} {}

  void set(const Head<T>& head) {
    head_ = head;
    for (int64_t t = 0; t < count_; ++t) std::copy_n(head.row(last_ + t), H_, copy_.row(t));
    std::fill(copy_.row(count_), copy_.row(round_up(count_, kWidth)), T{0});
  }
  /// @param k0 a multiple of kKeyBlock, less than L
  Head<T> block(int64_t k0) const {
    return k0 == last_ ? copy_ : Head<T>{head_.row(k0), head_.stride};
  }
  /// Its rows, zeros included.
  int64_t rows(int64_t k0) const { return k0 == last_ ? round_up(count_, kWidth) : kKeyBlock; }

 private:
  const int64_t last_, count_, H_;  // of the partial block; last_ is L where there is none
  Head<T> head_{}, copy_;
};

/// All tokens' rows as columns, the left operand of products over tokens: for each block of keys
/// [H, kKeyBlock], zeros beyond L. @param scratch 2 * kKeyBlock * H numbers
template <class T>
void transpose_tokens(const VectorKernels& kernels, const Head<T>& head, int64_t L, int64_t H,
                      T* out, float* scratch) {
  float* const turned = scratch + kKeyBlock * H;
  for (int64_t first = 0; first < L; first += kKeyBlock) {
    const int64_t count = std::min(kKeyBlock, L - first);
    for (int64_t t = 0; t < count; ++t) {
      widen_row(kernels, H, head.row(first + t), scratch + t * H);
    }
    std::fill(scratch + count * H, scratch + kKeyBlock * H, 0.0f);
    kernels.transpose(kKeyBlock, H, reinterpret_cast<const uint32_t*>(scratch), H,
                      reinterpret_cast<uint32_t*>(turned), kKeyBlock);
    store_row(kernels, kKeyBlock * H, turned, out + first * H);
  }
}

/// Sets what a query must not see: key k0 + row is later than query q0 + column. Keys beyond L are
/// later than all queries.
inline void mask_later_keys(int64_t k0, int64_t keys, int64_t q0, int64_t W, float value,
                            float* scores) {
  for (int64_t k = std::max<int64_t>(0, q0 - k0 + 1); k < keys; ++k) {
    std::fill_n(scores + k * W, std::min(W, k0 + k - q0), value);
  }
}

/// Uninitialised, [B, heads, L, H] as `like`, in memory [B, L, heads, H].
inline at::Tensor empty_by_token(const at::Tensor& like) {
  return at::empty({like.size(0), like.size(2), like.size(1), like.size(3)}, like.options())
      .transpose(1, 2);
}

/// Calls use(b, head, Scratch) for each head of keys and values, each as a task of its own.
template <class Use>
void for_key_heads(const at::Tensor& k_BKLH, int64_t scratch_bytes, const Use& use) {
  const int64_t K = k_BKLH.size(1);
  const Workers workers(scratch_bytes);
  workers.run(
      k_BKLH.size(0) * K, [&](int64_t i, Scratch scratch) { use(i / K, i % K, scratch); },
      release_products);
}

}  // namespace lorikeet::ops::cpu
