#pragma once
#include <torch/torch.h>

#include <vector>

namespace lorikeet {

/// Scales all gradients so that their global L2 norm is at most `max_norm`, with the factor of
/// torch.nn.utils.clip_grad_norm_: min(1, max_norm / (norm + 1e-6)). A norm that is not finite
/// changes no gradient: the caller skips the step. Parameters without a gradient are passed over.
///
/// On the CPU squares are summed in double over fixed pieces, so that the same gradients give the
/// same bits with any number of threads.
/// @param parameters  gradients of one device, dense
/// @param max_norm    0: only measures
/// @return the norm before clipping
double clip_gradients(const std::vector<torch::Tensor>& parameters, double max_norm);

/// Its parts, for gradients that lie on several ranks.
///
/// The sum of all squares as high + low: double [2] on the gradients' device. On the CPU, as long
/// as tensors are cut at multiples of 1024 elements, the sum is the same to the last bit of `high`
/// (but for ties) however they are cut.
torch::Tensor sum_of_squares(const std::vector<torch::Tensor>& parameters);
/// @param sums_P2  of P ranks @return the norm, double []
torch::Tensor norm_of(const torch::Tensor& sums_P2);
/// Scales all gradients as clip_gradients does, for a global norm that is known.
void scale_gradients(const std::vector<torch::Tensor>& parameters, const torch::Tensor& norm,
                     double max_norm);

}  // namespace lorikeet
