#pragma once
// Where a backward pass writes: gradients in fresh memory or where a sink wants them, and the
// routing's, summed of parts.
//
// D features of x, E experts, G segments.
#include <ATen/core/Tensor.h>

#include "plan.h"
#include "workers.h"

namespace lorikeet::ops::cpu {

/// Where the gradient of one matrix of all experts goes, [E, O, I]; null where it isn't needed. In
/// bf16 it is written once, from sums over all segments.
struct ExpertGradient {
  void* data = nullptr;
  bool is_bf16 = false;
};

/// A gradient in fresh memory, uninitialised; undefined where it isn't needed.
at::Tensor fresh_gradient(const at::Tensor& like, bool is_needed, at::ScalarType dtype);

/// Bytes of a result in fp32, or none, that is yet to be rounded to the dtype of `like`.
inline int64_t bytes_to_round(const at::Tensor& result, const at::Tensor& like) {
  const bool is_rounded = result.defined() && result.scalar_type() != like.scalar_type();
  return is_rounded ? static_cast<int64_t>(result.nbytes()) : 0;
}

/// The gradient of one matrix of all experts: where the thread's sink wants it
/// (lorikeet/ops/gradient_sink.h), or in fresh memory, for autograd.
class WeightGradient {
 public:
  WeightGradient(const at::Tensor& weight, bool is_needed);
  const ExpertGradient& place() const { return place_; }
  /// When it is there. @return in the weight's dtype; undefined where autograd gets none
  at::Tensor finish() const;

 private:
  const at::Tensor weight_;
  at::Tensor fresh_;
  ExpertGradient place_;
};

/// The routing's gradient: a place of its own for every pair of an outer block and an owner, summed
/// in their order at the end.
class DroutingParts {
 public:
  /// @param owners tasks of one outer block
  DroutingParts(bool is_needed, int64_t outer_blocks, int64_t owners, const Plan& plan, int64_t E);
  /// Of one outer block: OwnerJob::drouting.
  float* block(int64_t i) const { return parts_.as<float>() + i * block_; }
  int64_t bytes() const { return parts_.bytes(); }
  at::Tensor total(const Plan& plan, const at::Tensor& routing_GE) const;

 private:
  int64_t row_, block_;
  Buffer parts_;
};

}  // namespace lorikeet::ops::cpu
