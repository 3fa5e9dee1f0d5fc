#pragma once
#include <cstdint>

namespace lorikeet::ops::cpu {

/// Segments that are merged together, at most: a tile of every expert is read once for them.
inline constexpr int64_t kMergedSegments = 16;
/// Outputs that one call of `combine` makes at most: as many as keep their sums in registers.
inline constexpr int64_t kMaxOutputs = 8;
/// Numbers that a sum of `dot` is spread over.
inline constexpr int64_t kDotLanes = 16;

/// A stack of equal matrices in memory: element (i, r, c) is at i * matrix + r * row + c.
struct Strides {
  int64_t matrix, row;
};

/// Vector loops, compiled once for each level of processor (kernels.inc) and chosen at run time.
/// bf16 numbers are uint16_t. A "pair row" holds rows k and k+1 interleaved, as the bf16 matrix
/// product wants its right operand.
struct VectorKernels {
  /// out[s] = sum_i weights[i * kMergedSegments + s] in[i] for `outputs` <= kMergedSegments
  /// matrices of rows x columns, summed in fp32 and rounded once. Pieces of the matrices that come
  /// next are fetched meanwhile: inputs are often hundreds of megabytes, read once, at distances
  /// that share cache sets. Results lie in panes of `pane` columns, `next_pane` numbers apart, of
  /// which `columns` are a multiple; one as wide as a row is no pane but the matrix.
  struct Merge {
    int64_t inputs, outputs, rows, columns;
    Strides in, out;
    int64_t pane, next_pane;
  };
  void (*merge_f32)(const Merge&, const float* weights, const float* in, float* out);
  void (*merge_bf16)(const Merge&, const float* weights, const uint16_t* in, float* out);
  void (*merge_f32_to_bf16)(const Merge&, const float* weights, const float* in, uint16_t* out);
  void (*merge_bf16_to_bf16)(const Merge&, const float* weights, const uint16_t* in, uint16_t* out);
  /// The same to pair rows; `rows` is even and out.row counts from pair row to pair row.
  void (*merge_f32_to_pairs)(const Merge&, const float* weights, const float* in, uint16_t* out);
  void (*merge_bf16_to_pairs)(const Merge&, const float* weights, const uint16_t* in,
                              uint16_t* out);

  /// sums[(i * kMergedSegments + s) * kDotLanes ...] += <in_i, others_s>, spread over the lanes;
  /// `outputs` <= kMergedSegments matrices `others`. @param next where the next call's `in` begins
  struct Dot {
    int64_t inputs, outputs, rows, columns;
    Strides in, others;
  };
  void (*dot_f32)(const Dot&, const float* in, const float* next, const float* others, float* sums);
  void (*dot_bf16)(const Dot&, const uint16_t* in, const uint16_t* next, const float* others,
                   float* sums);

  /// out[o] (+)= sum_i coefficients[i * kMaxOutputs + o] in[i] for `outputs` <= kMaxOutputs
  /// matrices of rows x columns.
  struct Combine {
    int64_t outputs, inputs, rows, columns;
    Strides in, out;
    bool accumulate;
  };
  void (*combine)(const Combine&, const float* coefficients, const float* in, float* out);
  /// The same, rounded; it cannot accumulate.
  void (*combine_to_bf16)(const Combine&, const float* coefficients, const float* in,
                          uint16_t* out);

  /// h = silu(a) b
  void (*swiglu)(int64_t n, const float* a, const float* b, float* h);
  /// h again, and da and db from dh.
  void (*swiglu_backward)(int64_t n, const float* a, const float* b, const float* dh, float* da,
                          float* db, float* h);

  /// A block of [keys, queries] scores becomes exp(scale score - largest); `largest` and `sums`,
  /// one a query, go on from the blocks before, whose results are to be multiplied by `kept`.
  void (*softmax_step)(int64_t keys, int64_t queries, float scale, float* scores, float* largest,
                       float* sums, float* kept);
  /// matrix[r, c] *= factors[c]
  void (*scale_columns)(int64_t rows, int64_t columns, const float* factors, float* matrix);
  /// scores become P = exp(scale score - lse), and gradients, those of P, become those of the
  /// scores before scaling: scale P (gradient - delta).
  void (*attention_gradient)(int64_t keys, int64_t queries, float scale, const float* lse,
                             const float* delta, float* scores, float* gradients);
  /// out[r] = <a_r, b_r>
  void (*row_dots_f32)(int64_t rows, int64_t n, const float* a, int64_t a_row, const float* b,
                       int64_t b_row, float* out);
  void (*row_dots_bf16)(int64_t rows, int64_t n, const uint16_t* a, int64_t a_row,
                        const uint16_t* b, int64_t b_row, float* out);

  /// y = x rstd weight, with rstd = 1 / sqrt(mean(x^2) + eps) of each row; rows of n numbers, one
  /// after the other.
  void (*rms_norm_f32)(int64_t rows, int64_t n, float eps, const float* x, const float* weight,
                       float* y, float* rstd);
  void (*rms_norm_bf16)(int64_t rows, int64_t n, float eps, const uint16_t* x, const float* weight,
                        uint16_t* y, float* rstd);
  /// dx; dweight [n] is added to.
  void (*rms_norm_backward_f32)(int64_t rows, int64_t n, const float* dy, const float* x,
                                const float* weight, const float* rstd, float* dx, float* dweight);
  void (*rms_norm_backward_bf16)(int64_t rows, int64_t n, const uint16_t* dy, const uint16_t* x,
                                 const float* weight, const float* rstd, uint16_t* dx,
                                 float* dweight);
  /// One token's heads of 2 * half numbers: pairs (x[i], x[half + i]) rotated by the angles whose
  /// cosines and sines [half] are given; backwards for sign -1.
  void (*rope_f32)(int64_t heads, int64_t half, float sign, const float* cos, const float* sin,
                   const float* x, float* y);
  void (*rope_bf16)(int64_t heads, int64_t half, float sign, const float* cos, const float* sin,
                    const uint16_t* x, uint16_t* y);
  /// -log(softmax(logits)[target]) of n logits, which become softmax(logits) - onehot(target) if a
  /// gradient is asked for. @param scratch n numbers
  float (*cross_entropy_f32)(int64_t n, int64_t target, bool gradient, float* logits,
                             float* scratch);
  float (*cross_entropy_bf16)(int64_t n, int64_t target, bool gradient, uint16_t* logits,
                              float* scratch);

  /// A transformer encoder's rows of n numbers, `in` and `sums` one row after the other.
  /// out = in + bias
  void (*add_bias_f32)(int64_t rows, int64_t n, const float* in, const float* bias, float* out,
                       int64_t out_row);
  void (*add_bias_bf16)(int64_t rows, int64_t n, const float* in, const float* bias, uint16_t* out,
                        int64_t out_row);
  /// out = gelu(in + bias), by erf (within 1.5e-7); `in` is overwritten.
  void (*add_bias_gelu_f32)(int64_t rows, int64_t n, float* in, const float* bias, float* out,
                            int64_t out_row);
  void (*add_bias_gelu_bf16)(int64_t rows, int64_t n, float* in, const float* bias, uint16_t* out,
                             int64_t out_row);
  /// out = (z - mean(z)) / sqrt(var(z) + eps) weight + shift of z = sums + bias + residual; `sums`
  /// are overwritten.
  void (*add_layer_norm_f32)(int64_t rows, int64_t n, float eps, float* sums, const float* bias,
                             const float* residual, const float* weight, const float* shift,
                             float* out);
  void (*add_layer_norm_bf16)(int64_t rows, int64_t n, float eps, float* sums, const float* bias,
                              const uint16_t* residual, const float* weight, const float* shift,
                              uint16_t* out);

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
extern const VectorKernels kAvx2Kernels, kAvx512Kernels, kAvx512Bf16Kernels;
#endif

}  // namespace lorikeet::ops::cpu
