// A stack of encoder layers: the plain statement, argument checks, and which form computes.
// N tokens, D model, F feed-forward width, A heads, H = D / A.
#include "lorikeet/ops/transformer_encoder.h"

#include <ATen/ATen.h>

#include "cpu/transformer_encoder.h"

namespace lorikeet::ops {

namespace {

using at::Tensor;

void check_layer(const EncoderLayer& layer, int64_t D, const at::TensorOptions& options) {
  const int64_t F = layer.intermediate.weight.size(0);
  const auto check = [&](const char* name, const Tensor& weight, std::vector<int64_t> shape) {
    TORCH_CHECK(weight.sizes() == shape && weight.scalar_type() == options.dtype() &&
                    weight.device() == options.device(),
                "TransformerEncoder: ", name, " ", weight.sizes(), " in ", weight.scalar_type(),
                " on ", weight.device(), " must be ", at::IntArrayRef(shape), " in ",
                options.dtype(), " on ", options.device());
  };
  const auto linear = [&](const char* name, const EncoderLayer::Linear& l, int64_t O, int64_t I) {
    check(name, l.weight, {O, I});
    check(name, l.bias, {O});
  };
  const auto norm = [&](const char* name, const EncoderLayer::Norm& n) {
    check(name, n.weight, {D});
    check(name, n.bias, {D});
  };
  linear("query_key_value", layer.query_key_value, 3 * D, D);
  linear("attention_output", layer.attention_output, D, D);
  linear("intermediate", layer.intermediate, F, D);
  linear("output", layer.output, D, F);
  norm("attention_norm", layer.attention_norm);
  norm("output_norm", layer.output_norm);
}

void check_offsets(const Tensor& x_ND, at::IntArrayRef offsets) {
  bool fits = !offsets.empty() && offsets.front() == 0 && offsets.back() == x_ND.size(0);
  for (size_t b = 1; b < offsets.size(); ++b) fits = fits && offsets[b] >= offsets[b - 1];
  TORCH_CHECK(fits, "TransformerEncoder: offsets ", offsets, " must go from 0 to the ",
              x_ND.size(0), " rows of x and not decrease");
}

Tensor attend(const Tensor& qkv_N3D, int64_t num_heads, at::IntArrayRef offsets) {
  std::vector<Tensor> texts;
  for (size_t b = 1; b < offsets.size(); ++b) {
    const int64_t length = offsets[b] - offsets[b - 1];
    if (length == 0) continue;
    const Tensor qkv_3ALH = qkv_N3D.narrow(0, offsets[b - 1], length)
                                .view({length, 3, num_heads, -1})
                                .permute({1, 2, 0, 3});
    const Tensor y_1ALH = at::scaled_dot_product_attention(
        qkv_3ALH.narrow(0, 0, 1), qkv_3ALH.narrow(0, 1, 1), qkv_3ALH.narrow(0, 2, 1));
    texts.push_back(y_1ALH[0].transpose(0, 1).flatten(1));
  }
  return at::cat(texts);
}

}  // namespace

Tensor encoder_layer_reference(const EncoderLayer& layer, int64_t num_heads, double norm_eps,
                               const Tensor& x_ND, at::IntArrayRef offsets) {
  if (x_ND.size(0) == 0) return x_ND;
  const auto linear = [](const Tensor& x, const EncoderLayer::Linear& l) {
    return at::linear(x, l.weight, l.bias);
  };
  const auto norm = [&](const Tensor& x, const EncoderLayer::Norm& n) {
    return at::layer_norm(x, {x.size(1)}, n.weight, n.bias, norm_eps);
  };
  const Tensor seen_ND = attend(linear(x_ND, layer.query_key_value), num_heads, offsets);
  const Tensor h_ND = norm(x_ND + linear(seen_ND, layer.attention_output), layer.attention_norm);
  const Tensor wide_NF = at::gelu(linear(h_ND, layer.intermediate));
  return norm(h_ND + linear(wide_NF, layer.output), layer.output_norm);
}

TransformerEncoder::TransformerEncoder(std::vector<EncoderLayer> layers, int64_t num_heads,
                                       double norm_eps, bool reference)
    : num_heads_(num_heads), norm_eps_(norm_eps) {
  TORCH_CHECK(!layers.empty(), "TransformerEncoder: has no layers");
  const Tensor& first = layers[0].output.weight;
  TORCH_CHECK(first.dim() == 2 && num_heads > 0 && first.size(0) % num_heads == 0,
              "TransformerEncoder: ", num_heads, " heads must divide the rows of output ",
              first.sizes());
  width_ = first.size(0);
  options_ = first.options();
  for (const EncoderLayer& layer : layers) {
    TORCH_CHECK(
        layer.intermediate.weight.dim() == 2 && layer.intermediate.weight.size(0) == first.size(1),
        "TransformerEncoder: intermediate ", layer.intermediate.weight.sizes(), " must have the ",
        first.size(1), " rows that the first layer's output has columns");
    check_layer(layer, width_, options_);
  }
  if (!reference) packed_ = cpu::pack_encoder(layers, num_heads, norm_eps);
  if (!packed_) layers_ = std::move(layers);
}

TransformerEncoder::~TransformerEncoder() = default;

Tensor TransformerEncoder::operator()(const Tensor& x_ND, at::IntArrayRef offsets) const {
  TORCH_CHECK(x_ND.dim() == 2 && x_ND.size(1) == width_ && x_ND.scalar_type() == options_.dtype() &&
                  x_ND.device() == options_.device(),
              "TransformerEncoder: x ", x_ND.sizes(), " in ", x_ND.scalar_type(), " on ",
              x_ND.device(), " must be [N, ", width_, "] in ", options_.dtype(), " on ",
              options_.device());
  check_offsets(x_ND, offsets);
  const at::NoGradGuard no_grad;
  if (packed_) return packed_->forward(x_ND, offsets);
  Tensor y_ND = x_ND;
  for (const EncoderLayer& layer : layers_) {
    y_ND = encoder_layer_reference(layer, num_heads_, norm_eps_, y_ND, offsets);
  }
  return y_ND;
}

}  // namespace lorikeet::ops
