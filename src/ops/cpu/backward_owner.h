#pragma once
// The half of a backward pass that owns columns of x: gradients at hidden features, which stand in
// HiddenGradients, become those of x, of the experts and of the routing. merged_ffn and
// merged_linear share it.
//
// D features of x, S features of one outer block, E experts.
#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "backward_results.h"
#include "blocks.h"
#include "merge.h"
#include "plan.h"
#include "token_rows.h"
#include "workers.h"

namespace lorikeet::ops::cpu {

/// Hidden features that one task works on.
inline constexpr int64_t kFeatureBlock = 64;
/// Columns of x that one task works on: as many as its merged tiles have room for in the second
/// level of cache.
template <class T>
inline constexpr int64_t kModelBlock = 256 / static_cast<int64_t>(sizeof(T));

/// Segments whose gradient tiles are in cache together.
inline constexpr int64_t kGradientChunk = kMergedSegments;

/// Gradients at the hidden layer for one outer block of S features, in both orientations.
/// merged_ffn has three parts of a feature (da, db, h), of which two (da, db) lead to x;
/// merged_linear has one.
template <class T>
struct HiddenGradients {
  HiddenGradients(const Plan& plan, int64_t block, int64_t feature_parts, int64_t token_parts)
      : size(block),
        parts(feature_parts),
        token_row(token_parts * block + 64 / static_cast<int64_t>(sizeof(T))),
        features(parts * block * plan.columns * static_cast<int64_t>(sizeof(T))),
        tokens(token_row * plan.columns * static_cast<int64_t>(sizeof(T))) {}

  /// Rows of a strip are its tokens; for each feature block begin .. + rows all of its first part,
  /// then all of its second, ...
  T* feature_rows(const TokenBlock& strip, int64_t begin) const {
    return features.as<T>() + parts * (size * strip.column + begin * strip.width);
  }
  /// The parts of each token that lead to x, S numbers each; tokens are token_row apart: not a
  /// power of two, for the cache's sake.
  T* token_rows(int64_t column) const { return tokens.as<T>() + column * token_row; }
  int64_t bytes() const { return features.bytes() + tokens.bytes(); }

  const int64_t size, parts, token_row;
  const Buffer features, tokens;
};

/// One matrix of all experts and its gradient.
struct ExpertWeight {
  ExpertMatrix experts;
  ExpertGradient gradient;
};

template <class T>
struct OwnerJob {
  const VectorKernels& kernels;
  const Plan& plan;
  const std::vector<MergeChunk>& chunks;
  const HiddenGradients<T>& hidden;
  int64_t D, E;
  TokenRows<T> x;
  std::vector<ExpertWeight> inputs;    ///< [E, F, D], one for each part that leads to x
  TokenRows<T> dy;                     ///< [N, D]; only with `output`
  std::optional<ExpertWeight> output;  ///< [E, D, F], of the hidden layer's last part
  const float* routing;                ///< [G, E]
  bool needs_routing;
  float* dx;        ///< [N, D], or null
  float* drouting;  ///< of one outer block: [blocks of D][segments][E]

  bool needs_inputs() const {
    bool needed = needs_routing;
    for (const ExpertWeight& weight : inputs) needed = needed || weight.gradient.data != nullptr;
    return needed;
  }
  bool needs_output() const {
    return output && (needs_routing || output->gradient.data != nullptr);
  }
};

/// Columns d0 .. + columns of dx, for a chunk's tokens: what features f0 .. + size bring.
template <class T>
void input_gradient(const OwnerJob<T>& job, int64_t f0, int64_t size, int64_t d0, int64_t columns,
                    const MergeChunk& chunk, Scratch scratch);
/// Bytes of scratch memory that it needs. @param depth of its products
template <class T>
int64_t input_scratch(const Plan& plan, int64_t depth);

/// Bytes of scratch memory a thread needs. @param size the largest outer block @param inputs as
/// many as OwnerJob has @param weight one of the experts' matrices
template <class T>
int64_t owner_scratch(const Plan& plan, int64_t size, int64_t inputs, const at::Tensor& weight);

/// All of dx and of the experts' and the routing's gradients that features f0 .. + size bring:
/// every task owns kModelBlock<T> columns of x.
template <class T>
void own_columns(const OwnerJob<T>& job, int64_t f0, int64_t size, const Workers& workers);

}  // namespace lorikeet::ops::cpu
