// The row kernels on CUDA tensors: memory, stream and device from LibTorch around their launches.
// They join their operators when liblorikeet_cuda.so is opened.
#include <ATen/ATen.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <algorithm>
#include <tuple>

#include "src/ops/cuda/hook.h"
#include "src/ops/cuda/host/device.h"
#include "src/ops/cuda/launchers.h"
#include "src/ops/cuda/rows.h"
#include "src/ops/cuda/tiles.h"

namespace lorikeet::ops::cuda {

namespace {

using at::Tensor;

/// On the current device.
int row_blocks(int64_t wanted) {
  const int64_t most = static_cast<int64_t>(device_gpu(-1).num_sms) * kRowBlocksPerSm;
  return static_cast<int>(std::clamp<int64_t>(wanted, 1, most));
}

/// Where a warp takes a row.
int blocks_of_warps(int64_t rows) { return row_blocks((rows + kRowWarps - 1) / kRowWarps); }

void* stream() { return c10::cuda::getCurrentCUDAStream().stream(); }

std::tuple<Tensor, Tensor> rope_on_device(const Tensor& q, const Tensor& k, const Tensor& cos,
                                          const Tensor& sin, bool inverse) {
  const c10::cuda::CUDAGuard guard(q.device());
  const Tensor from_q = prepared(q), from_k = prepared(k);
  const Tensor to_q = at::empty_like(from_q), to_k = at::empty_like(from_k);
  const Tensor cosines = prepared(cos), sines = prepared(sin);
  const int64_t tokens = q.size(0) * q.size(1), half = q.size(3) / 2;
  const RopeArguments arguments{
      {from_q.const_data_ptr(), to_q.data_ptr(), static_cast<int>(q.size(2))},
      {from_k.const_data_ptr(), to_k.data_ptr(), static_cast<int>(k.size(2))},
      cosines.const_data_ptr<float>(),
      sines.const_data_ptr<float>(),
      tokens,
      cos.numel() / half,
      static_cast<int>(half),
      inverse ? 1 : 0};
  const int64_t items = tokens * (q.size(2) + k.size(2)) * (half / 8);
  launch_rope(arguments, q.scalar_type() == at::kFloat,
              row_blocks((items + kRowThreads - 1) / kRowThreads), stream());
  return {to_q, to_k};
}

Tensor cross_entropy_on_device(const Tensor& logits_CV, const Tensor& targets_C, bool gradient) {
  const c10::cuda::CUDAGuard guard(logits_CV.device());
  const Tensor targets = targets_C.contiguous();
  const Tensor losses = at::empty(targets.sizes(), logits_CV.options().dtype(at::kFloat));
  const auto rows = static_cast<int>(logits_CV.size(0));
  const CrossEntropyArguments arguments{logits_CV.const_data_ptr(),
                                        gradient ? logits_CV.data_ptr() : nullptr,
                                        targets.const_data_ptr<int64_t>(),
                                        losses.data_ptr<float>(),
                                        rows,
                                        static_cast<int>(logits_CV.size(1)),
                                        /*scale=*/1};
  launch_cross_entropy(arguments, logits_CV.scalar_type() == at::kFloat, row_blocks(rows),
                       stream());
  return losses;
}

std::tuple<Tensor, Tensor> rms_norm_on_device(const Tensor& given_x, const Tensor& given_weight,
                                              double eps) {
  const c10::cuda::CUDAGuard guard(given_x.device());
  const Tensor x = prepared(given_x), weight = prepared(given_weight), y = at::empty_like(x);
  const Tensor rstd = at::empty(x.sizes().slice(0, x.dim() - 1), weight.options());
  const RmsNormArguments arguments{x.const_data_ptr(),     weight.const_data_ptr<float>(),
                                   y.data_ptr(),           rstd.data_ptr<float>(),
                                   rstd.numel(),           static_cast<int>(weight.size(0)),
                                   static_cast<float>(eps)};
  launch_rms_norm(arguments, x.scalar_type() == at::kFloat, blocks_of_warps(rstd.numel()),
                  stream());
  return {y, rstd};
}

/// Rows are summed in stripes, so many that every block has one, but no more than are soon added.
Tensor norm_weight_gradient(const Tensor& dy, const Tensor& x, const Tensor& rstd) {
  constexpr int64_t kMostStripes = 64, kLeastRows = 32;
  const int64_t width = x.size(-1), rows = rstd.numel(), across = (width + 255) / 256;
  const int blocks =
      row_blocks(across * std::min(kMostStripes, (rows + kLeastRows - 1) / kLeastRows));
  const int64_t stripes = std::max<int64_t>(1, blocks / across);
  const Tensor partials = at::empty({stripes, width}, rstd.options());
  const Tensor dweight = at::empty({width}, rstd.options());
  launch_rms_norm_weight(
      {dy.const_data_ptr(), x.const_data_ptr(), rstd.const_data_ptr<float>(),
       partials.data_ptr<float>(), rows, static_cast<int>(width), static_cast<int>(stripes)},
      x.scalar_type() == at::kFloat, blocks, stream());
  const Gpu gpu = device_gpu(-1);
  make_launcher(gpu.kernels, stream())
      ->sum_partials({partials.const_data_ptr<float>(), static_cast<int>(stripes),
                      static_cast<int>(width), dweight.data_ptr<float>()},
                     stream_blocks(gpu, (width + 31) / 32, kStreamThreads, kStreamBlocksPerSm, 0));
  return dweight;
}

std::tuple<Tensor, Tensor> rms_norm_backward_on_device(const Tensor& given_dy,
                                                       const Tensor& given_x,
                                                       const Tensor& given_weight,
                                                       const Tensor& given_rstd,
                                                       const std::array<bool, 2>& needed) {
  const c10::cuda::CUDAGuard guard(given_x.device());
  const Tensor dy = prepared(given_dy), x = prepared(given_x), weight = prepared(given_weight);
  const Tensor rstd = given_rstd.contiguous();
  Tensor dx;
  if (needed[0]) {
    dx = at::empty_like(x);
    launch_rms_norm_input(
        {dy.const_data_ptr(), x.const_data_ptr(), weight.const_data_ptr<float>(),
         rstd.const_data_ptr<float>(), dx.data_ptr(), rstd.numel(), static_cast<int>(x.size(-1))},
        x.scalar_type() == at::kFloat, blocks_of_warps(rstd.numel()), stream());
  }
  return {dx, needed[1] ? norm_weight_gradient(dy, x, rstd) : Tensor()};
}

const bool joined = [] {
  set_row_kernels(
      {rope_on_device, cross_entropy_on_device, rms_norm_on_device, rms_norm_backward_on_device});
  return true;
}();

}  // namespace

}  // namespace lorikeet::ops::cuda
