#pragma once
// The half of a forward pass that owns rows of a merged matrix and writes results: y_s = W_s h.
// merged_ffn projects its hidden layer down with it, merged_linear its input.
#include <vector>

#include "blocks.h"
#include "merge.h"
#include "plan.h"
#include "token_rows.h"
#include "workers.h"

namespace lorikeet::ops::cpu {

/// Rows of a merged matrix that one task works on.
inline constexpr int64_t kProjectRows = 64;

template <class T>
struct Projection {
  const VectorKernels& kernels;
  const Plan& plan;
  const std::vector<MergeChunk>& chunks;
  ExpertMatrix experts;  ///< [E, O, I]
  int64_t O, I;
  float* sums;  ///< [O, width] of each panel, over the blocks of I so far
  void* y;      ///< [N, O]
  bool is_y_bf16;
};

/// Right operands of a projection: panels as pack_columns makes them, of `rows` rows each, of which
/// those from `first` on are meant.
template <class T>
struct Panels {
  const T* data;
  int64_t rows, first;
  const T* of(const TokenBlock& panel) const {
    return data + panel.column * rows + first * panel.width;
  }
};

/// Adds the part of inputs i0 .. + size, and writes y after the last.
template <class T>
void project(const Projection<T>& job, const Panels<T>& panels, int64_t i0, int64_t size,
             const Workers& workers);
/// Bytes of scratch memory a thread needs. @param size the largest block of I
template <class T>
int64_t project_scratch(const Plan& plan, int64_t size);

/// x [N, D] as the right operand of products over features: a panel begins at its column * D.
template <class T>
void pack_panels(const VectorKernels& kernels, const Plan& plan, const TokenRows<T>& x, T* out,
                 const Workers& workers);

}  // namespace lorikeet::ops::cpu
