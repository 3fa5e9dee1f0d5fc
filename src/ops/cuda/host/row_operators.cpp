// The row kernels on CUDA tensors: memory, stream and device from LibTorch around their launches.
// They join their operators when liblorikeet_cuda.so is opened.
#include <ATen/ATen.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <algorithm>
#include <tuple>

#include "src/ops/cuda/hook.h"
#include "src/ops/cuda/host/device.h"
#include "src/ops/cuda/rows.h"

namespace lorikeet::ops::cuda {

namespace {

using at::Tensor;

/// On the current device.
int row_blocks(int64_t wanted) {
  const int64_t most = static_cast<int64_t>(device_gpu(-1).num_sms) * kRowBlocksPerSm;
  return static_cast<int>(std::clamp<int64_t>(wanted, 1, most));
}

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

const bool joined = [] {
  set_row_kernels({rope_on_device, cross_entropy_on_device});
  return true;
}();

}  // namespace

}  // namespace lorikeet::ops::cuda
