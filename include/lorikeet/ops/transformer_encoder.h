#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace lorikeet::ops {

namespace cpu {
class PackedEncoder;
}

/// A post-norm transformer encoder layer (BERT, arXiv 1810.04805): D model, F feed-forward width.
struct EncoderLayer {
  struct Linear {
    at::Tensor weight;  ///< [O, I]
    at::Tensor bias;    ///< [O]
  };
  struct Norm {
    at::Tensor weight;  ///< [D]
    at::Tensor bias;    ///< [D]
  };
  Linear query_key_value;   ///< [3 D, D]: the three one behind another, heads within each
  Linear attention_output;  ///< [D, D]
  Norm attention_norm;
  Linear intermediate;  ///< [F, D], GELU by erf behind it
  Linear output;        ///< [D, F]
  Norm output_norm;
};

/// The plain statement in ATen, on any device, in x's dtype.
/// @param x_ND     the texts' tokens one behind another: nothing is padded
/// @param offsets  row numbers from 0 to N, not decreasing: text b is rows offsets[b] ..
/// offsets[b + 1], and each of its tokens sees all of them
/// @return [N, D]
at::Tensor encoder_layer_reference(const EncoderLayer& layer, int64_t num_heads, double norm_eps,
                                   const at::Tensor& x_ND, at::IntArrayRef offsets);

/// A stack of such layers for inference. On the CPU, fp32 and bf16 go through the micro-kernels
/// (src/ops/cpu/transformer_encoder.h), with weights packed once; bf16 is computed in fp32, from
/// rounded weights, where the processor has no product for it. Everything else takes the plain
/// statement.
///
/// The micro-kernels compute on the calling thread alone: threads are given texts of their own, and
/// bits do not depend on how many there are, nor on the texts beside one another.
class TransformerEncoder {
 public:
  /// @param layers     weights of one dtype and device
  /// @param reference  the plain statement everywhere
  /// @throws c10::Error for shapes that do not go together
  TransformerEncoder(std::vector<EncoderLayer> layers, int64_t num_heads, double norm_eps,
                     bool reference = false);
  ~TransformerEncoder();

  /// As encoder_layer_reference, through all layers. For several threads at once.
  /// @throws c10::Error for another dtype or device than the weights', or offsets that do not fit
  at::Tensor operator()(const at::Tensor& x_ND, at::IntArrayRef offsets) const;

 private:
  std::vector<EncoderLayer> layers_;  ///< empty where `packed_` has them
  at::TensorOptions options_;
  int64_t width_, num_heads_;
  double norm_eps_;
  std::unique_ptr<const cpu::PackedEncoder> packed_;
};

}  // namespace lorikeet::ops
