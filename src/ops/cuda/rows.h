#pragma once
#include <cstdint>

#include "types.h"

/// Kernels that go over rows of memory once or twice: what a training step needs beside the merged
/// feed-forward, where LibTorch has no fused form. Seen by nvcc and by g++.
///
/// N tokens, H head size, V words, R rows of D numbers.
namespace lorikeet::ops::cuda {

/// Rotary position embedding of queries and keys in one launch: out[i] = x[i] cos - x[i + H/2] sin,
/// out[i + H/2] = x[i + H/2] cos + x[i] sin (arXiv 2104.09864, Hugging Face's halves).
struct RopeArguments {
  struct Heads {
    const void* x;  ///< [N, count, H]
    void* out;      ///< the same; may be x
    int count;
  };
  Heads queries, keys;
  const float *cos, *sin;  ///< [table_rows, H/2]: token t takes row t % table_rows
  int64_t num_tokens, table_rows;
  int half;     ///< H/2, a multiple of 8
  int inverse;  ///< turns back: the gradient
};

/// A target that does not count.
inline constexpr int64_t kIgnoredTarget = -100;

/// Of a chunk of logits, each row's cross-entropy and its gradient, (softmax - one-hot) scale.
struct CrossEntropyArguments {
  const void* logits;      ///< [num_rows, V], V a multiple of 8
  void* gradients;         ///< the same, may be `logits`; null: not wanted
  const int64_t* targets;  ///< [num_rows] below V, or kIgnoredTarget; of others all is NaN
  float* losses;           ///< [num_rows], nats; 0 where the target does not count
  int num_rows, vocabulary;
  float scale;  ///< of the gradients alone
};

/// y = x rstd weight with rstd = 1 / sqrt(mean(x^2) + eps) of each row.
struct RmsNormArguments {
  const void* x;        ///< [R, D], D a multiple of 8
  const float* weight;  ///< [D]
  void* y;              ///< as x
  float* rstd;          ///< [R]
  int64_t num_rows;
  int width;
  float eps;
};
/// The gradient of x.
struct RmsNormInputArguments {
  const void *dy, *x;
  const float *weight, *rstd;
  void* dx;
  int64_t num_rows;
  int width;
};
/// The gradient of the weight, up to its last sum (SumArguments).
struct RmsNormWeightArguments {
  const void *dy, *x;
  const float* rstd;
  float* partials;  ///< [num_stripes, D]: sums over R / num_stripes rows each
  int64_t num_rows;
  int width, num_stripes;
};

/// @param is_float  x, y and its gradient, out, logits and gradients are fp32, not bf16
void launch_rope(const RopeArguments& arguments, bool is_float, int blocks, void* stream);
void launch_cross_entropy(const CrossEntropyArguments& arguments, bool is_float, int blocks,
                          void* stream);
void launch_rms_norm(const RmsNormArguments& arguments, bool is_float, int blocks, void* stream);
void launch_rms_norm_input(const RmsNormInputArguments& arguments, bool is_float, int blocks,
                           void* stream);
void launch_rms_norm_weight(const RmsNormWeightArguments& arguments, bool is_float, int blocks,
                            void* stream);

/// Threads of a block, and how many blocks a multiprocessor is to hold.
inline constexpr int kRowThreads = 256, kRowBlocksPerSm = 4;
inline constexpr int kRowWarps = kRowThreads / 32;

}  // namespace lorikeet::ops::cuda
