#pragma once
#include <lorikeet_device.h>

#include "rows.h"
#include "vectors.cuh"

/// RMSNorm with an fp32 weight, forward and backward, in fp32. A warp takes a row and reads it
/// twice, the second time from L1; sums have one order: a lane's own columns, the lanes of a warp.
namespace lorikeet::ops::cuda {

/// Over all lanes, on all lanes.
LORIKEET_DEVICE float over_warp(float sum) {
  LORIKEET_UNROLL
  for (int mask = 16; mask > 0; mask /= 2) sum += device::shuffle_xor(sum, mask);
  return sum;
}

/// Calls row(index, lane) for the rows that fall to this warp.
template <class Function>
LORIKEET_DEVICE void for_each_row(int64_t num_rows, const Function& row) {
  const int warp = device::thread() / 32, lane = device::thread() % 32;
  for (int64_t i = static_cast<int64_t>(device::block()) * kRowWarps + warp; i < num_rows;
       i += static_cast<int64_t>(device::num_blocks()) * kRowWarps) {
    row(i, lane);
  }
}

template <bool kFloat>
LORIKEET_KERNEL(kRowThreads, kRowBlocksPerSm)
rms_norm(const RmsNormArguments arg) {
  for_each_row(arg.num_rows, [&](int64_t row, int lane) {
    const int64_t begin = row * arg.width;
    float x[8], weight[8], sum = 0;
    LORIKEET_UNROLL_TWICE
    for (int j = lane * 8; j < arg.width; j += 256) {
      load8<kFloat>(x, arg.x, begin + j);
      LORIKEET_UNROLL
      for (int i = 0; i < 8; ++i) sum += x[i] * x[i];
    }
    const float mean = over_warp(sum) / static_cast<float>(arg.width);
    const float rstd = device::rsqrt(mean + arg.eps);
    LORIKEET_UNROLL_TWICE
    for (int j = lane * 8; j < arg.width; j += 256) {
      load8<kFloat>(x, arg.x, begin + j);
      load8<true>(weight, arg.weight, j);
      LORIKEET_UNROLL
      for (int i = 0; i < 8; ++i) x[i] *= rstd * weight[i];
      store8<kFloat>(arg.y, begin + j, x);
    }
    if (lane == 0) device::store_float(arg.rstd + row, rstd);
  });
}

/// dx = rstd (g - n mean(g n)) with g = dy weight and n = x rstd.
template <bool kFloat>
LORIKEET_KERNEL(kRowThreads, kRowBlocksPerSm)
rms_norm_input(const RmsNormInputArguments arg) {
  for_each_row(arg.num_rows, [&](int64_t row, int lane) {
    const int64_t begin = row * arg.width;
    const float rstd = device::load_float(arg.rstd + row);
    float x[8], dy[8], weight[8], sum = 0;
    const auto load = [&](int j) {
      load8<kFloat>(x, arg.x, begin + j);
      load8<kFloat>(dy, arg.dy, begin + j);
      load8<true>(weight, arg.weight, j);
    };
    LORIKEET_UNROLL_TWICE
    for (int j = lane * 8; j < arg.width; j += 256) {
      load(j);
      LORIKEET_UNROLL
      for (int i = 0; i < 8; ++i) sum += dy[i] * weight[i] * (x[i] * rstd);
    }
    const float mean = over_warp(sum) / static_cast<float>(arg.width);
    LORIKEET_UNROLL_TWICE
    for (int j = lane * 8; j < arg.width; j += 256) {
      load(j);
      LORIKEET_UNROLL
      for (int i = 0; i < 8; ++i) x[i] = rstd * (dy[i] * weight[i] - x[i] * rstd * mean);
      store8<kFloat>(arg.dx, begin + j, x);
    }
  });
}

struct NormShared {
  float sums[kRowWarps][8][32];
};

/// partials[stripe] = sum of dy x rstd over the stripe's rows, for 256 columns at a time: a block's
/// warps take its rows in turn, and are added in order.
template <bool kFloat>
LORIKEET_KERNEL(kRowThreads, kRowBlocksPerSm)
rms_norm_weight(const RmsNormWeightArguments arg) {
  NormShared& shared = device::shared_memory<NormShared>();
  const int warp = device::thread() / 32, lane = device::thread() % 32;
  const int across = (arg.width + 255) / 256;
  for (int item = device::block(); item < arg.num_stripes * across; item += device::num_blocks()) {
    const int stripe = item / across, column = item % across * 256 + lane * 8;
    const int64_t end = arg.num_rows * (stripe + 1) / arg.num_stripes;
    float x[8], dy[8], sums[8] = {};
    LORIKEET_UNROLL_TWICE
    for (int64_t row = arg.num_rows * stripe / arg.num_stripes + warp;
         row < end && column < arg.width; row += kRowWarps) {
      load8<kFloat>(x, arg.x, row * arg.width + column);
      load8<kFloat>(dy, arg.dy, row * arg.width + column);
      const float rstd = device::load_float(arg.rstd + row);
      LORIKEET_UNROLL
      for (int i = 0; i < 8; ++i) sums[i] += dy[i] * (x[i] * rstd);
    }
    LORIKEET_UNROLL
    for (int i = 0; i < 8; ++i) shared.sums[warp][i][lane] = sums[i];
    device::sync_block();
    if (warp == 0 && column < arg.width) {
      for (int other = 1; other < kRowWarps; ++other) {
        LORIKEET_UNROLL
        for (int i = 0; i < 8; ++i) sums[i] += shared.sums[other][i][lane];
      }
      store8<true>(arg.partials, static_cast<int64_t>(stripe) * arg.width + column, sums);
    }
    device::sync_block();  // the next sums write over what the first warp still reads
  }
}

}  // namespace lorikeet::ops::cuda
