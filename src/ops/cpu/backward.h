#pragma once
// What the two halves of merged_ffn's backward share: backward.cpp has the loop nest.
//
// D model, F feed-forward width, E experts, W tokens with padding, T a strip's width.
#include <ATen/core/Tensor.h>

#include "merge.h"
#include "merged_ffn.h"
#include "plan.h"
#include "workers.h"

namespace lorikeet::ops::cpu {

/// Rows of F (kFeatureBlock) and of D (kModelBlock) that one task owns.
inline constexpr int64_t kFeatureBlock = 64, kModelBlock = 64;

/// Gradients at the hidden layer for one outer block of F, in both orientations.
template <class T>
struct HiddenGradients {
  HiddenGradients(const Plan& plan, int64_t block)
      : size(block),
        token_row(2 * block + 64 / static_cast<int64_t>(sizeof(T))),
        features(3 * block * plan.columns * static_cast<int64_t>(sizeof(T))),
        tokens(token_row * plan.columns * static_cast<int64_t>(sizeof(T))) {}

  /// Rows of a strip are its tokens; for each feature block begin .. + rows first da's, then db's,
  /// then h's.
  T* feature_rows(const TokenBlock& strip, int64_t begin) const {
    return features.as<T>() + 3 * (size * strip.column + begin * strip.width);
  }
  /// [da, db] of each token, token_row apart: not a power of two, for the cache's sake.
  T* token_rows(int64_t column) const { return tokens.as<T>() + column * token_row; }

  const int64_t size, token_row;
  const Buffer features, tokens;
};

/// Where the gradient of one matrix of all experts goes, [E, O, I]; null where it isn't needed. In
/// bf16 it is written once, from sums over all segments.
struct ExpertGradient {
  void* data;
  bool is_bf16;
};

/// Segments whose gradient tiles are in cache together.
inline constexpr int64_t kGradientChunk = 16;

template <class T>
struct Backward {
  const VectorKernels& kernels;
  const Plan& plan;
  const std::vector<MergeChunk>& chunks;
  ExpertMatrix gate, up, down;
  int64_t D, F, E;
  const T *dy, *x, *a, *b;
  const float* routing;  ///< [G, E]
  Needed needed;
  float* dx;  ///< [N, D]
  ExpertGradient dgate, dup, ddown;
  float* drouting;  ///< of one outer block: [blocks of D][segments][E]
  const HiddenGradients<T>& hidden;

  bool needs_hidden() const { return needed[0] || needs_gate_up(); }
  bool needs_gate_up() const { return needed[1] || needed[2] || needed[3]; }
  bool needs_down() const { return needed[1] || needed[4]; }
};

/// One task of the first half: features f0 + begin .. + rows, for all tokens.
template <class T>
int64_t hidden_scratch(int64_t D);
template <class T>
void hidden_gradients(const Backward<T>& job, int64_t f0, int64_t begin, int64_t rows,
                      Scratch scratch);

/// One task of the second half: columns d0 .. + columns of dx and of the experts' gradients, the
/// part of features f0 .. + size.
template <class T>
int64_t owner_scratch(const Plan& plan, int64_t size, int64_t E);
template <class T>
void input_gradient(const Backward<T>& job, int64_t f0, int64_t size, int64_t d0, int64_t columns,
                    Scratch scratch);
template <class T>
void weight_gradients(const Backward<T>& job, int64_t f0, int64_t size, int64_t d0, int64_t columns,
                      Scratch scratch);

}  // namespace lorikeet::ops::cpu
