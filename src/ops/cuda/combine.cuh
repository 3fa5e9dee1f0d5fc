#pragma once
#include <lorikeet_device.h>

#include "tiles.h"

/// out[i] = sum_k coefficient[i, k] in[k] on tensor cores: [16 outs x 16 ins] by [16 ins x
/// columns].
///
/// A warp takes 64 columns of one row at a time. Which column is which is free, as long as going in
/// and coming out agree; so a lane's 8 columns of the fragment are 8 neighbours in memory, and
/// whole 16-byte words go from global memory to registers and back with no shared memory between.
///
/// Tensor cores take bf16. A coefficient is split into two of them (16 bits of mantissa), an fp32
/// input too; the product of the two small parts, 2^-16 of the whole, is left out.
namespace lorikeet::ops::cuda {

/// Coefficient fragments [outs / 16][ins / 16][large, small][lane], made once a block.
struct CoefficientFragments {
  Words4* base;
  int ins16;

  LORIKEET_DEVICE Words4* at(int out16, int in16, int part) const {
    return base + ((out16 * ins16 + in16) * 2 + part) * 32;
  }
};

LORIKEET_DEVICE float large_part(float x) { return device::as_float(device::pack(0, x)); }

LORIKEET_DEVICE void make_coefficients(const CombineArguments& arg,
                                       const CoefficientFragments& fragments) {
  const int out16 = (arg.num_outs + 15) / 16;
  const auto coefficient = [&](int out, int in) {
    if (out >= arg.num_outs || in >= arg.num_ins) return 0.0f;
    return device::load_float(arg.coefficients + out * arg.coefficient_stride_out +
                              in * arg.coefficient_stride_in);
  };
  for (int i = device::thread(); i < out16 * fragments.ins16 * 32; i += kCombineThreads) {
    const int lane = i % 32, in16 = i / 32 % fragments.ins16, o16 = i / 32 / fragments.ins16;
    Words4 large, small;
    LORIKEET_UNROLL
    for (int r = 0; r < 4; ++r) {
      const int out = o16 * 16 + lane / 4 + r % 2 * 8, in = in16 * 16 + lane % 4 * 2 + r / 2 * 8;
      const float x = coefficient(out, in), y = coefficient(out, in + 1);
      large.w[r] = device::pack(x, y);
      small.w[r] = device::pack(x - large_part(x), y - large_part(y));
    }
    fragments.at(o16, in16, 0)[lane] = large;
    fragments.at(o16, in16, 1)[lane] = small;
  }
}

/// The fragments of 16 inputs and 64 columns: b[part][j][.] for column j of each lane's eight.
template <bool kFloatIn>
struct InputFragments {
  uint32_t b[kFloatIn ? 2 : 1][8][2];

  /// @param p the lane's 8 columns in input 0, or null where they are beyond the rectangle
  LORIKEET_DEVICE void load(const CombineArguments& arg, const char* p, int in16) {
    LORIKEET_UNROLL
    for (int k = 0; k < 2; ++k) {
      const int in = in16 * 16 + device::thread() % 4 * 2 + k * 8;
      if constexpr (kFloatIn) {
        float x[8], y[8];
        load_floats(x, arg, p, in);
        load_floats(y, arg, p, in + 1);
        LORIKEET_UNROLL
        for (int j = 0; j < 8; ++j) {
          b[0][j][k] = device::pack(x[j], y[j]);
          b[1][j][k] = device::pack(x[j] - large_part(x[j]), y[j] - large_part(y[j]));
        }
      } else {
        const Words4 x = load_words(arg, p, in, 0), y = load_words(arg, p, in + 1, 0);
        LORIKEET_UNROLL
        for (int j = 0; j < 4; ++j) {
          b[0][j * 2][k] = (x.w[j] & 0xffffu) | y.w[j] << 16;
          b[0][j * 2 + 1][k] = x.w[j] >> 16 | (y.w[j] & 0xffff0000u);
        }
      }
    }
  }

 private:
  static LORIKEET_DEVICE Words4 load_words(const CombineArguments& arg, const char* p, int in,
                                           int word4) {
    if (p == nullptr || in >= arg.num_ins) return {};
    constexpr int kElementBytes = kFloatIn ? 4 : 2;
    return device::load16(p + in * arg.in_matrix_stride * kElementBytes + word4 * 16);
  }
  static LORIKEET_DEVICE void load_floats(float (&x)[8], const CombineArguments& arg, const char* p,
                                          int in) {
    LORIKEET_UNROLL
    for (int half = 0; half < 2; ++half) {
      const Words4 words = load_words(arg, p, in, half);
      LORIKEET_UNROLL
      for (int i = 0; i < 4; ++i) x[half * 4 + i] = device::as_float(words.w[i]);
    }
  }
};

/// The lane's share of 16 outputs and 64 columns: two outputs, two runs of 8 columns in each.
template <bool kFloatOut>
LORIKEET_DEVICE void store_outputs(const CombineArguments& arg, const float (&sums)[8][4],
                                   int64_t at, int column, int out16) {
  const int lane = device::thread() % 32;
  LORIKEET_UNROLL
  for (int q = 0; q < 4; ++q) {
    const int out = out16 * 16 + lane / 4 + q / 2 * 8, run = column + (lane % 4 * 2 + q % 2) * 8;
    if (out >= arg.num_outs || run >= arg.num_columns) continue;
    const int64_t to = out * arg.out_matrix_stride + at + run;
    if constexpr (kFloatOut) {
      LORIKEET_UNROLL
      for (int half = 0; half < 2; ++half) {
        Words4 words;
        LORIKEET_UNROLL
        for (int i = 0; i < 4; ++i) words.w[i] = device::as_bits(sums[half * 4 + i][q]);
        device::store16(static_cast<float*>(arg.out) + to + half * 4, words);
      }
    } else {
      Words4 words;
      LORIKEET_UNROLL
      for (int i = 0; i < 4; ++i) words.w[i] = device::pack(sums[i * 2][q], sums[i * 2 + 1][q]);
      device::store16(static_cast<bf16*>(arg.out) + to, words);
    }
  }
}

/// Two blocks of 16 outputs at a time, so that 32 segments or experts read the inputs once.
template <bool kFloatIn, bool kFloatOut>
LORIKEET_DEVICE void combine_columns(const CombineArguments& arg,
                                     const CoefficientFragments& fragments, const char* p,
                                     int64_t at, int column, int out16) {
  const int lane = device::thread() % 32;
  float sums[2][8][4] = {};
  for (int in16 = 0; in16 < fragments.ins16; ++in16) {
    InputFragments<kFloatIn> in;
    in.load(arg, p, in16);
    LORIKEET_UNROLL
    for (int o = 0; o < 2; ++o) {
      if ((out16 + o) * 16 >= arg.num_outs) continue;
      const Words4 large = fragments.at(out16 + o, in16, 0)[lane];
      const Words4 small = fragments.at(out16 + o, in16, 1)[lane];
      LORIKEET_UNROLL
      for (int j = 0; j < 8; ++j) {
        device::multiply_add(sums[o][j], small.w, in.b[0][j][0], in.b[0][j][1]);
        if constexpr (kFloatIn) {
          device::multiply_add(sums[o][j], large.w, in.b[1][j][0], in.b[1][j][1]);
        }
        device::multiply_add(sums[o][j], large.w, in.b[0][j][0], in.b[0][j][1]);
      }
    }
  }
  LORIKEET_UNROLL
  for (int o = 0; o < 2; ++o) store_outputs<kFloatOut>(arg, sums[o], at, column, out16 + o);
}

template <bool kFloatIn, bool kFloatOut>
LORIKEET_KERNEL(kCombineThreads, combine_blocks_per_sm(kFloatIn))
combine(const CombineArguments arg) {
  const CoefficientFragments fragments{&device::shared_memory<Words4>(), (arg.num_ins + 15) / 16};
  make_coefficients(arg, fragments);
  device::sync_block();
  constexpr int kWarps = kCombineThreads / 32, kElementBytes = kFloatIn ? 4 : 2;
  const int across = (arg.num_columns + 63) / 64, lane = device::thread() % 32;
  const int64_t items = static_cast<int64_t>(arg.num_rows) * across;
  for (int64_t item = device::block() * kWarps + device::thread() / 32; item < items;
       item += static_cast<int64_t>(device::num_blocks()) * kWarps) {
    const int row = static_cast<int>(item / across), column = static_cast<int>(item % across) * 64;
    const int mine = column + lane / 4 * 8;
    const char* p =
        static_cast<const char*>(arg.in) + (row * arg.in_row_stride + mine) * kElementBytes;
    const int64_t at = (row / 8 * arg.out_row_group + row % 8) * arg.out_row_stride;
    for (int out16 = 0; out16 * 16 < arg.num_outs; out16 += 2) {
      combine_columns<kFloatIn, kFloatOut>(arg, fragments, mine < arg.num_columns ? p : nullptr, at,
                                           column, out16);
    }
  }
}

}  // namespace lorikeet::ops::cuda
