#pragma once
#include <lorikeet_device.h>

namespace lorikeet::ops::cuda {

/// Eight neighbours in global memory, bf16 or fp32, as whole 16-byte words.
template <bool kFloat>
LORIKEET_DEVICE void load8(float (&v)[8], const void* base, int64_t at) {
  if constexpr (kFloat) {
    LORIKEET_UNROLL
    for (int half = 0; half < 2; ++half) {
      const Words4 words = device::load16(static_cast<const float*>(base) + at + half * 4);
      LORIKEET_UNROLL
      for (int i = 0; i < 4; ++i) v[half * 4 + i] = device::as_float(words.w[i]);
    }
  } else {
    const Words4 words = device::load16(static_cast<const bf16*>(base) + at);
    LORIKEET_UNROLL
    for (int i = 0; i < 4; ++i) {
      v[i * 2] = device::as_float(words.w[i] << 16);
      v[i * 2 + 1] = device::as_float(words.w[i] & 0xffff0000u);
    }
  }
}

template <bool kFloat>
LORIKEET_DEVICE void store8(void* base, int64_t at, const float (&v)[8]) {
  Words4 words;
  if constexpr (kFloat) {
    LORIKEET_UNROLL
    for (int half = 0; half < 2; ++half) {
      LORIKEET_UNROLL
      for (int i = 0; i < 4; ++i) words.w[i] = device::as_bits(v[half * 4 + i]);
      device::store16(static_cast<float*>(base) + at + half * 4, words);
    }
  } else {
    LORIKEET_UNROLL
    for (int i = 0; i < 4; ++i) words.w[i] = device::pack(v[i * 2], v[i * 2 + 1]);
    device::store16(static_cast<bf16*>(base) + at, words);
  }
}

}  // namespace lorikeet::ops::cuda
