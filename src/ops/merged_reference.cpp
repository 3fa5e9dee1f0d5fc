// The reference form of lorikeet::merged_ffn and lorikeet::merged_linear.
//
// N tokens, I inputs, O outputs, D model, F feed-forward width, E experts, G segments, C segments
// of a chunk.
//
// Segments are taken a chunk at a time, so that merged weights occupy few expert shapes,
// and the merge and its gradients are matrix products ([C x E] by [E x F*D]) that read each expert
// once a chunk. bf16 inputs: experts are merged and gradients summed in fp32; only the operands of
// the products are bf16.
#include "merged_reference.h"

#include <ATen/ATen.h>
#include <ATen/OpMathType.h>

#include <algorithm>

#include "lorikeet/ops/merged_ffn.h"

namespace lorikeet::ops {

namespace {

using at::Tensor;

/// One expert matrix set [E, O, I], with its gradient where there is one, in the arithmetic's
/// precision.
class ExpertMatrix {
 public:
  ExpertMatrix(const Tensor& weight, at::ScalarType compute)
      : flat_EK_(weight.reshape({weight.size(0), -1}).to(compute)),
        rows_(weight.size(1)),
        columns_(weight.size(2)) {}

  /// theta_g = sum_e r[g,e] theta_e: [C, E] -> [C, O, I] in the inputs' dtype.
  Tensor merge(const Tensor& routing_CE, at::ScalarType dtype) const {
    return at::mm(routing_CE, flat_EK_).view({-1, rows_, columns_}).to(dtype);
  }

  /// From the chunk's gradients of merged weights, [C, O, I] in compute precision: adds to the
  /// experts' gradients and returns the routing's, [C, E].
  Tensor accumulate(const Tensor& routing_CE, const Tensor& merged_grad_COI) {
    const Tensor grad_CK = merged_grad_COI.view({merged_grad_COI.size(0), -1});
    if (!grad_EK_.defined()) {
      grad_EK_ = at::mm(routing_CE.t(), grad_CK);
    } else {
      grad_EK_.addmm_(routing_CE.t(), grad_CK);
    }
    return at::mm(grad_CK, flat_EK_.t());
  }

  Tensor gradient(const Tensor& weight) const {
    return grad_EK_.defined() ? grad_EK_.view(weight.sizes()).to(weight.scalar_type())
                              : at::zeros_like(weight, at::MemoryFormat::Contiguous);
  }

  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }

 private:
  Tensor flat_EK_;  // K = O * I
  Tensor grad_EK_;
  int64_t rows_, columns_;
};

/// Rows of segment g.
Tensor segment(const Tensor& x, at::IntArrayRef offsets, int64_t g) {
  return x.narrow(0, offsets[g], offsets[g + 1] - offsets[g]);
}

/// Calls step(first segment, routing of the chunk [C, E]) for every chunk of segments.
template <class Step>
void for_chunks(const Tensor& routing, at::ScalarType compute, const Step& step) {
  for (int64_t begin = 0; begin < routing.size(0); begin += kSegmentsMergedAtOnce) {
    const int64_t count = std::min(kSegmentsMergedAtOnce, routing.size(0) - begin);
    step(begin, routing.narrow(0, begin, count).to(compute));
  }
}

}  // namespace

Tensor merged_linear_reference(const Tensor& x, at::IntArrayRef offsets, const Tensor& routing,
                               const Tensor& weight) {
  const auto dtype = x.scalar_type(), compute = at::toOpMathType(dtype);
  const ExpertMatrix experts(weight, compute);
  Tensor y = at::empty({x.size(0), experts.rows()}, x.options());
  for_chunks(routing, compute, [&](int64_t begin, const Tensor& routing_CE) {
    const Tensor merged_COI = experts.merge(routing_CE, dtype);
    for (int64_t c = 0; c < routing_CE.size(0); ++c) {
      Tensor y_s = segment(y, offsets, begin + c);
      at::mm_out(y_s, segment(x, offsets, begin + c), merged_COI[c].t());
    }
  });
  return y;
}

std::tuple<Tensor, Tensor, Tensor> merged_linear_backward_reference(const Tensor& dy,
                                                                    const Tensor& x,
                                                                    at::IntArrayRef offsets,
                                                                    const Tensor& routing,
                                                                    const Tensor& weight) {
  const auto dtype = x.scalar_type(), compute = at::toOpMathType(dtype);
  ExpertMatrix experts(weight, compute);
  Tensor dx = at::empty_like(x, at::MemoryFormat::Contiguous);
  Tensor drouting = at::zeros(routing.sizes(), routing.options().dtype(compute));
  for_chunks(routing, compute, [&](int64_t begin, const Tensor& routing_CE) {
    const int64_t count = routing_CE.size(0);
    const Tensor merged_COI = experts.merge(routing_CE, dtype);
    Tensor grad_COI = at::empty(merged_COI.sizes(), merged_COI.options().dtype(compute));
    for (int64_t c = 0; c < count; ++c) {
      const Tensor x_s = segment(x, offsets, begin + c), dy_s = segment(dy, offsets, begin + c);
      Tensor dx_s = segment(dx, offsets, begin + c);
      at::mm_out(dx_s, dy_s, merged_COI[c]);
      grad_COI[c].copy_(at::mm(dy_s.t(), x_s));
    }
    drouting.narrow(0, begin, count).copy_(experts.accumulate(routing_CE, grad_COI));
  });
  return {dx, drouting.to(routing.scalar_type()), experts.gradient(weight)};
}

Tensor merged_ffn_reference(const Tensor& x, at::IntArrayRef offsets, const Tensor& routing,
                            const Tensor& gate, const Tensor& up, const Tensor& down) {
  const auto dtype = x.scalar_type();
  const auto compute = at::toOpMathType(dtype);
  const ExpertMatrix gates(gate, compute), ups(up, compute), downs(down, compute);
  const int64_t num_segments = routing.size(0);
  Tensor y = at::empty_like(x, at::MemoryFormat::Contiguous);
  for (int64_t begin = 0; begin < num_segments; begin += kSegmentsMergedAtOnce) {
    const int64_t count = std::min(kSegmentsMergedAtOnce, num_segments - begin);
    const Tensor routing_CE = routing.narrow(0, begin, count).to(compute);
    const Tensor gate_CFD = gates.merge(routing_CE, dtype), up_CFD = ups.merge(routing_CE, dtype),
                 down_CDF = downs.merge(routing_CE, dtype);
    for (int64_t c = 0; c < count; ++c) {
      const Tensor x_s = segment(x, offsets, begin + c);
      const Tensor a = at::mm(x_s, gate_CFD[c].t()), b = at::mm(x_s, up_CFD[c].t());
      const Tensor h = (at::silu(a.to(compute)) * b).to(dtype);
      Tensor y_s = segment(y, offsets, begin + c);
      at::mm_out(y_s, h, down_CDF[c].t());
    }
  }
  return y;
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> merged_ffn_backward_reference(
    const Tensor& dy, const Tensor& x, at::IntArrayRef offsets, const Tensor& routing,
    const Tensor& gate, const Tensor& up, const Tensor& down) {
  const auto dtype = x.scalar_type();
  const auto compute = at::toOpMathType(dtype);
  ExpertMatrix gates(gate, compute), ups(up, compute), downs(down, compute);
  const int64_t num_segments = routing.size(0), F = gates.rows(), D = gates.columns();
  Tensor dx = at::empty_like(x, at::MemoryFormat::Contiguous);
  Tensor drouting = at::zeros(routing.sizes(), routing.options().dtype(compute));
  for (int64_t begin = 0; begin < num_segments; begin += kSegmentsMergedAtOnce) {
    const int64_t count = std::min(kSegmentsMergedAtOnce, num_segments - begin);
    const Tensor routing_CE = routing.narrow(0, begin, count).to(compute);
    const Tensor gate_CFD = gates.merge(routing_CE, dtype), up_CFD = ups.merge(routing_CE, dtype),
                 down_CDF = downs.merge(routing_CE, dtype);
    const auto wide = x.options().dtype(compute);
    Tensor dgate_CFD = at::empty({count, F, D}, wide), dup_CFD = at::empty({count, F, D}, wide),
           ddown_CDF = at::empty({count, D, F}, wide);
    for (int64_t c = 0; c < count; ++c) {
      const Tensor x_s = segment(x, offsets, begin + c), dy_s = segment(dy, offsets, begin + c);
      const Tensor a = at::mm(x_s, gate_CFD[c].t()).to(compute);
      const Tensor b = at::mm(x_s, up_CFD[c].t()).to(compute);
      const Tensor sigma = at::sigmoid(a), silu = a * sigma;
      const Tensor h = (silu * b).to(dtype);
      const Tensor dh = at::mm(dy_s, down_CDF[c]).to(compute);
      const Tensor db = (dh * silu).to(dtype);
      const Tensor da = (dh * b * (sigma * (1 + a * (1 - sigma)))).to(dtype);  // silu'(a)
      Tensor dx_s = segment(dx, offsets, begin + c);
      at::mm_out(dx_s, da, gate_CFD[c]);
      dx_s.addmm_(db, up_CFD[c]);
      dgate_CFD[c].copy_(at::mm(da.t(), x_s));
      dup_CFD[c].copy_(at::mm(db.t(), x_s));
      ddown_CDF[c].copy_(at::mm(dy_s.t(), h));
    }
    drouting.narrow(0, begin, count)
        .copy_(gates.accumulate(routing_CE, dgate_CFD) + ups.accumulate(routing_CE, dup_CFD) +
               downs.accumulate(routing_CE, ddown_CDF));
  }
  return {dx, drouting.to(routing.scalar_type()), gates.gradient(gate), ups.gradient(up),
          downs.gradient(down)};
}

}  // namespace lorikeet::ops
