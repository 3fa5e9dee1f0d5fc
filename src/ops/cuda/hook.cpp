#include "hook.h"

#include <ATen/core/Tensor.h>

#include <optional>

namespace lorikeet::ops::cuda {

namespace {
std::optional<MergedFfn> implementation;
std::optional<RowKernels> rows;
}  // namespace

void set_merged_ffn(const MergedFfn& given) { implementation = given; }

const MergedFfn* merged_ffn() { return implementation ? &*implementation : nullptr; }

Gpu gpu_at(const at::Device& device) {
  return implementation ? implementation->gpu(device.index()) : known_gpus().front();
}

void set_row_kernels(const RowKernels& given) { rows = given; }

const RowKernels* row_kernels() { return rows ? &*rows : nullptr; }

bool has_row_kernels(const at::Tensor& x, int64_t width) {
  const bool is_real = x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16;
  return rows && x.is_cuda() && is_real && x.numel() > 0 && width % 8 == 0 &&
         gpu_at(x.device()).kernels != KernelSet::none;
}

}  // namespace lorikeet::ops::cuda
