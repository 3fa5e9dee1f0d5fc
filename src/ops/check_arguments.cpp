#include "check_arguments.h"

#include <algorithm>

#include "cpu/level.h"

namespace lorikeet::ops {

using at::Tensor;

namespace {

void check_dtypes(const char* op, const Tensor& x, const Tensor& routing,
                  std::initializer_list<NamedWeight> weights) {
  const auto dtype = x.scalar_type();
  TORCH_CHECK(dtype == at::kFloat || dtype == at::kDouble || dtype == at::kBFloat16, op,
              ": x must be float32, float64 or bfloat16, not ", dtype);
  const NamedWeight& first = *weights.begin();
  const auto experts = first.tensor.scalar_type();
  TORCH_CHECK(experts == dtype || (dtype == at::kBFloat16 && experts == at::kFloat), op, ": ",
              first.name, " ", experts, " must have the dtype of x, ", dtype,
              ", or be float32 for x in bfloat16");
  for (const NamedWeight& other : weights) {
    TORCH_CHECK(other.tensor.scalar_type() == experts, op, ": ", other.name, " ",
                other.tensor.scalar_type(), " must have the dtype of ", first.name, ", ", experts);
  }
  const auto routing_dtype = dtype == at::kDouble ? at::kDouble : at::kFloat;
  TORCH_CHECK(routing.scalar_type() == routing_dtype, op, ": routing must be ", routing_dtype,
              " for x ", dtype, ", not ", routing.scalar_type());
}

}  // namespace

void check_merged_arguments(const char* op, const Tensor& x, at::IntArrayRef offsets,
                            const Tensor& routing, std::initializer_list<NamedWeight> weights) {
  const int64_t N = x.size(0), E = weights.begin()->tensor.size(0);
  TORCH_CHECK(!offsets.empty() && offsets.front() == 0 && offsets.back() == N, op,
              ": offsets must go from 0 to N = ", N, ", not ", offsets);
  TORCH_CHECK(std::is_sorted(offsets.begin(), offsets.end()), op,
              ": offsets must not decrease: ", offsets);
  const int64_t G = static_cast<int64_t>(offsets.size()) - 1;
  TORCH_CHECK(routing.sizes() == at::IntArrayRef({G, E}), op, ": routing must be [", G, ", ", E,
              "], not ", routing.sizes());
  check_dtypes(op, x, routing, weights);
  const auto on_device = [&](const Tensor& other) {
    TORCH_CHECK(other.device() == x.device(), op, ": x is on ", x.device(),
                " but another argument on ", other.device());
  };
  on_device(routing);
  for (const NamedWeight& weight : weights) on_device(weight.tensor);
}

void check_result_gradient(const char* op, const Tensor& dy, at::IntArrayRef sizes,
                           at::ScalarType dtype) {
  TORCH_CHECK(dy.sizes() == sizes && dy.scalar_type() == dtype, op, ": dy ", dy.sizes(), " ",
              dy.scalar_type(), " must be as the result, ", sizes, " ", dtype);
}

bool is_tiled(const Tensor& x, const Tensor& weight, bool reference) {
  // Not numel(), which tensors of symbolic sizes refuse.
  bool has_numbers = x.size(0) > 0 && x.size(1) > 0;
  for (int64_t i = 0; i < 3; ++i) has_numbers = has_numbers && weight.size(i) > 0;
  return !reference && x.scalar_type() != at::kDouble && !x.is_cuda() && has_numbers &&
         cpu::level().kernels != nullptr;
}

}  // namespace lorikeet::ops
