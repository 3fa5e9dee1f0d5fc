#pragma once
#include <cstdint>

namespace lorikeet::ops::cpu {

/// Outputs that one call of `combine` makes at most: as many as keep their sums in registers.
inline constexpr int64_t kMaxOutputs = 8;

/// A stack of equal matrices in memory: element (i, r, c) is at i * matrix + r * row + c.
struct Strides {
  int64_t matrix, row;
};

/// Vector loops, compiled once for each level of processor (kernels.inc) and chosen at run time.
/// bf16 numbers are uint16_t. A "pair row" holds rows k and k+1 interleaved, as the bf16 matrix
/// product wants its right operand.
struct VectorKernels {
  /// out[o] (+)= sum_i coefficients[i * kMaxOutputs + o] in[i] for `outputs` <= kMaxOutputs
  /// matrices of rows x columns.
  struct Combine {
    int64_t outputs, inputs, rows, columns;
    Strides in, out;
    bool accumulate;
  };
  void (*combine_f32)(const Combine&, const float* coefficients, const float* in, float* out);
  void (*combine_bf16)(const Combine&, const float* coefficients, const uint16_t* in, float* out);

  /// result[i * result_row + j] += <left[i], right[j]>, over matrices of rows x columns.
  struct Dots {
    int64_t lefts, rights, rows, columns;
    Strides left, right;
    int64_t result_row;
  };
  void (*dots_f32)(const Dots&, const float* left, const float* right, float* result);
  void (*dots_bf16)(const Dots&, const float* left, const uint16_t* right, float* result);

  /// h = silu(a) b
  void (*swiglu)(int64_t n, const float* a, const float* b, float* h);
  /// h again, and da and db from dh.
  void (*swiglu_backward)(int64_t n, const float* a, const float* b, const float* dh, float* da,
                          float* db, float* h);

  /// to[c * to_row + r] = from[r * from_row + c], in units of 32 bits.
  void (*transpose)(int64_t rows, int64_t columns, const uint32_t* from, int64_t from_row,
                    uint32_t* to, int64_t to_row);
  void (*to_bf16)(int64_t n, const float* from, uint16_t* to);
  void (*from_bf16)(int64_t n, const uint16_t* from, float* to);
  /// Rounds two rows of n into a pair row of 2n.
  void (*pair_rows)(int64_t n, const float* even, const float* odd, uint16_t* to);
  void (*pair_rows_bf16)(int64_t n, const uint16_t* even, const uint16_t* odd, uint16_t* to);
};

extern const VectorKernels kPortableKernels;
#if defined(__x86_64__)
extern const VectorKernels kAvx2Kernels, kAvx512Kernels;
#endif

}  // namespace lorikeet::ops::cpu
