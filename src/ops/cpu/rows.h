#pragma once
#include <ATen/core/Tensor.h>

#include <utility>

// The decoder's row-wise functions by vector loops: each row, or in rms_norm_backward each fixed
// block of rows, is one thread's work, so that bits do not depend on the number of threads.

namespace lorikeet::ops::cpu {

/// Whether there are vector loops for these numbers: fp32 or bf16 on a CPU.
bool has_row_loops(const at::Tensor& x);

/// @param weight [D], fp32 @return y like x, contiguous, and rstd [...], fp32 (kernels.h)
std::pair<at::Tensor, at::Tensor> rms_norm_forward(const at::Tensor& x, const at::Tensor& weight,
                                                   double eps);
/// @return gradients of x, in its dtype, and of weight, fp32
std::pair<at::Tensor, at::Tensor> rms_norm_backward(const at::Tensor& dy, const at::Tensor& x,
                                                    const at::Tensor& weight,
                                                    const at::Tensor& rstd);

/// @param cos, sin [L, H/2] or [B, L, H/2] @return rotated, contiguous
at::Tensor rope(const at::Tensor& x_BLAH, const at::Tensor& cos, const at::Tensor& sin,
                bool inverse);

/// Losses [C], fp32; with `gradient` the logits become those of the losses' sum. A target below
/// zero counts nothing.
at::Tensor cross_entropy_(const at::Tensor& logits_CV, const at::Tensor& targets_C, bool gradient);

}  // namespace lorikeet::ops::cpu
