#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "lorikeet/ops/transformer_encoder.h"

namespace lorikeet::ops::cpu {

/// Layers with their weights as right operands. Rows of tokens are left operands as they lie, so
/// that nothing is packed but weights, once; and what follows a product (bias, GELU, residual and
/// norm) runs over its rows while they are in cache.
class PackedEncoder {
 public:
  virtual ~PackedEncoder() = default;
  /// On the calling thread. @return [N, D] in x's dtype, contiguous
  virtual at::Tensor forward(const at::Tensor& x_ND, at::IntArrayRef offsets) const = 0;
};

/// Null where the micro-kernels do not take them: they want a CPU with fast products, fp32 or bf16,
/// and widths that are multiples of 16.
/// @param layers all of one dtype, on one device, of shapes that go together
std::unique_ptr<const PackedEncoder> pack_encoder(const std::vector<EncoderLayer>& layers,
                                                  int64_t num_heads, double norm_eps);

}  // namespace lorikeet::ops::cpu
