#pragma once
#include <lorikeet_device.h>

#include "rows.h"
#include "vectors.cuh"

/// Softmax, loss and gradient of rows of logits: a block takes a row, reads it twice and writes it
/// once, in place if asked. The maximum and the sum are found in the first reading together; in
/// fp32, in one order: a thread's own columns, the lanes of a warp, the warps.
namespace lorikeet::ops::cuda {

/// sum of exp(x - largest) over what has been seen.
struct Softmax {
  float largest = -3.4e38f, sum = 0;

  LORIKEET_DEVICE void add(const Softmax& other) {
    const float top = largest > other.largest ? largest : other.largest;
    sum = sum * device::exp(largest - top) + other.sum * device::exp(other.largest - top);
    largest = top;
  }
  LORIKEET_DEVICE void add(const float (&x)[8]) {
    Softmax eight;
    LORIKEET_UNROLL
    for (int i = 0; i < 8; ++i) eight.largest = x[i] > eight.largest ? x[i] : eight.largest;
    LORIKEET_UNROLL
    for (int i = 0; i < 8; ++i) eight.sum += device::exp(x[i] - eight.largest);
    add(eight);
  }
};

struct SoftmaxShared {
  Softmax warps[kRowWarps];
};

/// What all threads have seen, on all threads. Shared memory is free again after the next barrier.
LORIKEET_DEVICE Softmax over_block(Softmax mine, SoftmaxShared& shared) {
  LORIKEET_UNROLL
  for (int mask = 16; mask > 0; mask /= 2) {
    Softmax other;
    other.largest = device::shuffle_xor(mine.largest, mask);
    other.sum = device::shuffle_xor(mine.sum, mask);
    mine.add(other);
  }
  if (device::thread() % 32 == 0) shared.warps[device::thread() / 32] = mine;
  device::sync_block();
  Softmax all = shared.warps[0];
  for (int warp = 1; warp < kRowWarps; ++warp) all.add(shared.warps[warp]);
  return all;
}

/// One logit, of which no word of its own can be loaded.
template <bool kFloat>
LORIKEET_DEVICE float logit(const void* logits, int64_t at) {
  if constexpr (kFloat) {
    return device::load_float(static_cast<const float*>(logits) + at);
  } else {
    const uint32_t pair = device::load4(static_cast<const bf16*>(logits) + at / 2 * 2);
    return device::as_float(at % 2 == 0 ? pair << 16 : pair & 0xffff0000u);
  }
}

LORIKEET_DEVICE int64_t load_target(const int64_t* p) {
  const auto* words = reinterpret_cast<const uint32_t*>(p);
  return static_cast<int64_t>(uint64_t{device::load4(words + 1)} << 32 | device::load4(words));
}

/// The loss and the gradients of a row whose target is no word: the step is seen to be wrong, and
/// nothing beyond the row is read.
LORIKEET_DEVICE float not_a_number() { return device::as_float(0x7fc00000u); }

template <bool kFloat>
LORIKEET_KERNEL(kRowThreads, kRowBlocksPerSm)
cross_entropy(const CrossEntropyArguments arg) {
  SoftmaxShared& shared = device::shared_memory<SoftmaxShared>();
  for (int row = device::block(); row < arg.num_rows; row += device::num_blocks()) {
    const int64_t begin = static_cast<int64_t>(row) * arg.vocabulary;
    const int64_t target = load_target(arg.targets + row);
    const bool counts = target != kIgnoredTarget;  // for the whole block
    const bool is_word = target >= 0 && target < arg.vocabulary;
    Softmax all;
    float x[8] = {};
    if (counts) {
      for (int j = device::thread() * 8; j < arg.vocabulary; j += kRowThreads * 8) {
        load8<kFloat>(x, arg.logits, begin + j);
        all.add(x);
      }
      all = over_block(all, shared);
    }
    if (device::thread() == 0) {
      float nats = 0;
      if (counts) {
        nats = is_word
                   ? all.largest + device::log(all.sum) - logit<kFloat>(arg.logits, begin + target)
                   : not_a_number();
      }
      device::store_float(arg.losses + row, nats);
    }
    device::sync_block();  // the logit is read before it is overwritten, shared memory before the
                           // next row
    if (arg.gradients == nullptr) continue;
    const float scale = !counts ? 0 : is_word ? arg.scale / all.sum : not_a_number();
    for (int j = device::thread() * 8; j < arg.vocabulary; j += kRowThreads * 8) {
      if (counts) load8<kFloat>(x, arg.logits, begin + j);
      LORIKEET_UNROLL
      for (int i = 0; i < 8; ++i) {
        const float softmax = counts ? device::exp(x[i] - all.largest) * scale : 0;
        x[i] = counts && j + i == target ? softmax - arg.scale : softmax;
      }
      store8<kFloat>(arg.gradients, begin + j, x);
    }
  }
}

}  // namespace lorikeet::ops::cuda
