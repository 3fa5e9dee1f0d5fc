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

/// The same without waiting for the device.
/// @return the norm, double [] on the gradients' device (on the CPU where there are none)
torch::Tensor clip_gradients_without_sync(const std::vector<torch::Tensor>& parameters,
                                          double max_norm);

}  // namespace lorikeet
