#pragma once
#include <lorikeet_device.h>

#include "rows.h"
#include "vectors.cuh"

namespace lorikeet::ops::cuda {

/// A thread turns eight pairs of one head: it alone reads and writes them, so out may be x. Bound
/// by memory: every byte is touched once, the table comes from L2.
template <bool kFloat>
LORIKEET_KERNEL(kRowThreads, kRowBlocksPerSm)
rope(const RopeArguments arg) {
  const int eights = arg.half / 8, heads = arg.queries.count + arg.keys.count;
  const int64_t items = arg.num_tokens * heads * eights;
  for (int64_t item = static_cast<int64_t>(device::block()) * kRowThreads + device::thread();
       item < items; item += static_cast<int64_t>(device::num_blocks()) * kRowThreads) {
    const int first = static_cast<int>(item % eights) * 8;
    const int head = static_cast<int>(item / eights % heads);
    const int64_t token = item / eights / heads;
    const bool is_query = head < arg.queries.count;
    // Field by field: a choice between the two structures would be made through the stack.
    const void* const from = is_query ? arg.queries.x : arg.keys.x;
    void* const to = is_query ? arg.queries.out : arg.keys.out;
    const int64_t row = is_query ? token * arg.queries.count + head
                                 : token * arg.keys.count + head - arg.queries.count;
    const int64_t at = row * 2 * arg.half + first, turn = token % arg.table_rows * arg.half + first;
    float x[8], y[8], cos[8], sin[8];
    load8<kFloat>(x, from, at);
    load8<kFloat>(y, from, at + arg.half);
    load8<true>(cos, arg.cos, turn);
    load8<true>(sin, arg.sin, turn);
    LORIKEET_UNROLL
    for (int i = 0; i < 8; ++i) {
      const float s = arg.inverse != 0 ? -sin[i] : sin[i], a = x[i], b = y[i];
      x[i] = a * cos[i] - b * s;
      y[i] = b * cos[i] + a * s;
    }
    store8<kFloat>(to, at, x);
    store8<kFloat>(to, at + arg.half, y);
  }
}

}  // namespace lorikeet::ops::cuda
