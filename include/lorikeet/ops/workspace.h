#pragma once
#include <cstdint>
#include <vector>

namespace lorikeet::ops {

/// Bytes of working memory that the last forward or backward of a merged operator, in its tiled
/// form or on a GPU, took, beyond arguments, results and what forward saved. @param backward which
/// of the two
int64_t tiled_workspace_bytes(bool backward);

/// What that stays below for merged_ffn, forward and backward, in real layers (F of 704 or more, D
/// up to 1024, a thousand tokens or more, a dozen threads): an eighth of the experts, 2 MB a
/// thread, and for each token 4 D and 16 bytes a feature of an outer block of F.
/// @param bytes of a number of the experts
int64_t tiled_workspace_bound(int64_t tokens, int64_t D, int64_t F, int64_t E, int64_t bytes,
                              int64_t threads);

/// Bytes of the products with gate and up that the last tiled forward of merged_ffn kept for its
/// backward; 0 where none was asked for.
int64_t tiled_saved_bytes();

/// What the workspace is for merged_ffn on the GPU at hand, or where none is open on an A100,
/// forward or backward, whichever is more: a slab of merged weights, h and its gradients; by
/// batched products, where the kernels do not reach, a slab's columns of dh beside it, in bf16 the
/// slab in fp32, and a copy of the experts' rectangle in fp32.
/// @param offsets       [G+1] token numbers
/// @param bytes         of a number of x
/// @param expert_bytes  of one of the experts: 4 or as x
int64_t slab_workspace_bytes(const std::vector<int64_t>& offsets, int64_t D, int64_t F, int64_t E,
                             int64_t bytes, int64_t expert_bytes);

}  // namespace lorikeet::ops
