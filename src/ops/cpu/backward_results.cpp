#include "backward_results.h"

#include <ATen/ATen.h>

#include "lorikeet/ops/gradient_sink.h"
#include "pages.h"

namespace lorikeet::ops::cpu {

using at::Tensor;

Tensor fresh_gradient(const Tensor& like, bool is_needed, at::ScalarType dtype) {
  if (!is_needed) return Tensor();
  Tensor result = at::empty(like.sizes(), like.options().dtype(dtype));
  prefer_large_pages(result.mutable_data_ptr(), static_cast<int64_t>(result.nbytes()));
  return result;
}

WeightGradient::WeightGradient(const Tensor& weight, bool is_needed) : weight_(weight) {
  if (!is_needed) return;
  GradientSink* const sink = weight.scalar_type() == at::kFloat ? gradient_sink() : nullptr;
  if (sink != nullptr) place_.data = sink->place_of(weight);
  if (place_.data != nullptr) return;
  fresh_ = fresh_gradient(weight, true, weight.scalar_type());
  place_ = {fresh_.mutable_data_ptr(), fresh_.scalar_type() == at::kBFloat16};
}

Tensor WeightGradient::finish() const {
  if (!fresh_.defined() && place_.data != nullptr) gradient_sink()->written(weight_);
  return fresh_;
}

DroutingParts::DroutingParts(bool is_needed, int64_t outer_blocks, int64_t owners, const Plan& plan,
                             int64_t E)
    : row_(static_cast<int64_t>(plan.segments.size()) * E),
      block_(owners * row_),
      parts_(is_needed ? outer_blocks * block_ * static_cast<int64_t>(sizeof(float)) : 0) {}

Tensor DroutingParts::total(const Plan& plan, const Tensor& routing) const {
  Tensor total = at::zeros(routing.sizes(), routing.options());
  const int64_t E = routing.size(1), count = bytes() / static_cast<int64_t>(sizeof(float));
  for (int64_t k = 0; k < row_; ++k) {
    double sum = 0;
    for (int64_t i = k; i < count; i += row_) sum += parts_.as<float>()[i];
    const int64_t g = plan.segments[k / E].index;
    total.mutable_data_ptr<float>()[g * E + k % E] = static_cast<float>(sum);
  }
  return total;
}

}  // namespace lorikeet::ops::cpu
