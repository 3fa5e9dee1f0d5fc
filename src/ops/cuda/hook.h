#pragma once
#include <ATen/core/Tensor.h>

#include <array>
#include <tuple>

#include "geometry.h"

namespace lorikeet::ops::cuda {

/// What liblorikeet_cuda.so brings when it is opened. liblorikeet_ops.so, which registers the
/// operator, is linked without CUDA and calls it through here; without it CUDA tensors take batched
/// products (batched.h).
///
/// Arguments are checked: on one CUDA device, x bf16, is_supported().
struct MergedFfn {
  /// A CUDA device by its index; -1: the current one.
  Gpu (*gpu)(int device);
  /// @return y, and a and b [N * F] for backward, empty if not `save`
  std::tuple<at::Tensor, at::Tensor, at::Tensor> (*forward)(
      const at::Tensor& x, at::IntArrayRef offsets, const at::Tensor& routing,
      const at::Tensor& gate, const at::Tensor& up, const at::Tensor& down, bool save);
  /// @return gradients of x, routing, gate, up and down; undefined where not needed
  std::array<at::Tensor, 5> (*backward)(const at::Tensor& dy, const at::Tensor& x,
                                        at::IntArrayRef offsets, const at::Tensor& routing,
                                        const at::Tensor& gate, const at::Tensor& up,
                                        const at::Tensor& down, const at::Tensor& a,
                                        const at::Tensor& b, const std::array<bool, 5>& needed);
};

/// Called once, by liblorikeet_cuda.so's own initialisation.
void set_merged_ffn(const MergedFfn& implementation);
/// Null before.
const MergedFfn* merged_ffn();
/// A CUDA device, the current one if it has no index: by which slabs are cut, and what runs there.
/// An A100 before.
Gpu gpu_at(const at::Device& device);

/// The kernels of rows.h, which the same library brings. Arguments are checked, on one CUDA device,
/// and has_row_kernels().
struct RowKernels {
  /// @return both rotated, contiguous
  std::tuple<at::Tensor, at::Tensor> (*rope)(const at::Tensor& q_BLAH, const at::Tensor& k_BLKH,
                                             const at::Tensor& cos, const at::Tensor& sin,
                                             bool inverse);
  /// @return losses [C], fp32; with `gradient` the logits become those of the losses' sum
  at::Tensor (*cross_entropy)(const at::Tensor& logits_CV, const at::Tensor& targets_C,
                              bool gradient);
  /// As lorikeet::rms_norm_forward and _backward, of an fp32 weight.
  std::tuple<at::Tensor, at::Tensor> (*rms_norm)(const at::Tensor& x, const at::Tensor& weight,
                                                 double eps);
  std::tuple<at::Tensor, at::Tensor> (*rms_norm_backward)(const at::Tensor& dy, const at::Tensor& x,
                                                          const at::Tensor& weight,
                                                          const at::Tensor& rstd,
                                                          const std::array<bool, 2>& needed);
};
void set_row_kernels(const RowKernels& implementation);
/// Null before.
const RowKernels* row_kernels();
/// Whether the kernels take rows of x: fp32 or bf16 on a CUDA device that they run on, not empty,
/// of whole 16-byte words. @param width  of what is read in one piece
bool has_row_kernels(const at::Tensor& x, int64_t width);

}  // namespace lorikeet::ops::cuda
