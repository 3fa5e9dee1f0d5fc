#pragma once
#include <lorikeet_device.h>

#include "tiles.h"

/// The routing's gradients, <segment gradient, expert>, on tensor cores: [segments x elements] by
/// [elements x experts]. Elements are summed over, so their order is free: a lane's share of a
/// fragment is 8 neighbours, one 16-byte word. Experts in fp32 are rounded to bf16 first, as the
/// segment gradients have been.
///
/// No atomics: a block adds up its warps in turn and writes to a place of its own; sum_partials
/// adds the blocks in turn.
namespace lorikeet::ops::cuda {

/// 8 elements as four pairs, zeros where p is null.
template <bool kFloat>
LORIKEET_DEVICE Words4 load_eight(const char* p) {
  if (p == nullptr) return {};
  if constexpr (!kFloat) {
    return device::load16(p);
  } else {
    const Words4 x = device::load16(p), y = device::load16(p + 16);
    Words4 pairs;
    LORIKEET_UNROLL
    for (int i = 0; i < 4; ++i) {
      const Words4& from = i < 2 ? x : y;
      pairs.w[i] = device::pack(device::as_float(from.w[i % 2 * 2]),
                                device::as_float(from.w[i % 2 * 2 + 1]));
    }
    return pairs;
  }
}

/// Sums of kRoutingSegments segments and kExperts8 * 8 experts over the elements a warp visits.
template <bool kFloat, int kExperts8>
struct RoutingSums {
  static constexpr int kSegments16 = kRoutingSegments / 16;
  float sums[kSegments16][kExperts8][4] = {};

  /// 32 columns of one row.
  LORIKEET_DEVICE void add(const RoutingGradientArguments& arg, int first_segment, int row,
                           int column) {
    const int lane = device::thread() % 32;
    const int mine = column + lane % 4 * 8;
    const bool is_inside = mine < arg.columns;
    uint32_t left[kSegments16][2][4];  // [.][step of 16 elements]
    LORIKEET_UNROLL
    for (int s = 0; s < kSegments16; ++s) {
      LORIKEET_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int segment = first_segment + s * 16 + half * 8 + lane / 4;
        const bool is_valid = is_inside && segment < arg.num_segments;
        const int64_t at = (static_cast<int64_t>(segment) * arg.rows + row) * arg.columns + mine;
        const Words4 pairs =
            load_eight<false>(is_valid ? reinterpret_cast<const char*>(arg.slab + at) : nullptr);
        LORIKEET_UNROLL
        for (int i = 0; i < 4; ++i) left[s][i / 2][i % 2 * 2 + half] = pairs.w[i];
      }
    }
    constexpr int kElementBytes = kFloat ? 4 : 2;
    LORIKEET_UNROLL
    for (int e = 0; e < kExperts8; ++e) {
      const int expert = e * 8 + lane / 4;
      const char* p =
          static_cast<const char*>(arg.experts) +
          (expert * arg.expert_stride + row * arg.expert_row_stride + mine) * kElementBytes;
      const Words4 right = load_eight<kFloat>(is_inside && expert < arg.num_experts ? p : nullptr);
      LORIKEET_UNROLL
      for (int s = 0; s < kSegments16; ++s) {
        LORIKEET_UNROLL
        for (int step = 0; step < 2; ++step) {
          device::multiply_add(sums[s][e], left[s][step], right.w[step * 2], right.w[step * 2 + 1]);
        }
      }
    }
  }

  /// Adds to, or with `is_first` writes, total [kRoutingSegments][kExperts8 * 8].
  LORIKEET_DEVICE void add_to(float* total, bool is_first) const {
    const int lane = device::thread() % 32;
    LORIKEET_UNROLL
    for (int s = 0; s < kSegments16; ++s) {
      LORIKEET_UNROLL
      for (int e = 0; e < kExperts8; ++e) {
        LORIKEET_UNROLL
        for (int q = 0; q < 4; ++q) {
          const int segment = s * 16 + q / 2 * 8 + lane / 4, expert = e * 8 + lane % 4 * 2 + q % 2;
          float& to = total[segment * (kExperts8 * 8) + expert];
          to = is_first ? sums[s][e][q] : to + sums[s][e][q];
        }
      }
    }
  }
};

/// This block's sums of all warps to its place among the partials.
template <int kExperts8>
LORIKEET_DEVICE void store_partials(const RoutingGradientArguments& arg, const float* total,
                                    int first_segment) {
  for (int i = device::thread(); i < kRoutingSegments * kExperts8 * 8; i += kStreamThreads) {
    const int segment = first_segment + i / (kExperts8 * 8), expert = i % (kExperts8 * 8);
    if (segment >= arg.num_segments || expert >= arg.num_experts) continue;
    const int64_t at = static_cast<int64_t>(device::block()) * arg.num_segments + segment;
    float* to = arg.partials + at * arg.num_experts + expert;
    device::store_float(to, arg.is_first ? total[i] : device::load_float(to) + total[i]);
  }
}

template <bool kFloat, int kExperts8>
LORIKEET_KERNEL(kStreamThreads, kStreamBlocksPerSm)
routing_gradients(const RoutingGradientArguments arg) {
  constexpr int kWarps = kStreamThreads / 32;
  float* total = &device::shared_memory<float>();
  const int across = (arg.columns + 31) / 32, warp = device::thread() / 32;
  const int64_t items = static_cast<int64_t>(arg.rows) * across;
  for (int first = 0; first < arg.num_segments; first += kRoutingSegments) {
    RoutingSums<kFloat, kExperts8> sums;
    for (int64_t item = device::block() * kWarps + warp; item < items;
         item += static_cast<int64_t>(device::num_blocks()) * kWarps) {
      sums.add(arg, first, static_cast<int>(item / across), static_cast<int>(item % across) * 32);
    }
    for (int turn = 0; turn < kWarps; ++turn) {
      if (turn == warp) sums.add_to(total, turn == 0);
      device::sync_block();
    }
    store_partials<kExperts8>(arg, total, first);
    device::sync_block();  // the next segments write over what slower threads still read
  }
}

LORIKEET_KERNEL(kStreamThreads, kStreamBlocksPerSm) sum_partials(const SumArguments arg) {
  for (int i = device::block() * kStreamThreads + device::thread(); i < arg.size;
       i += device::num_blocks() * kStreamThreads) {
    float sum = 0;
    for (int p = 0; p < arg.num_partials; ++p) {
      sum += device::load_float(arg.partials + static_cast<int64_t>(p) * arg.size + i);
    }
    device::store_float(arg.out + i, sum);
  }
}

}  // namespace lorikeet::ops::cuda
