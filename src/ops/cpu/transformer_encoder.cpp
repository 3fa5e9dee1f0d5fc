// The loop nest of encoder layers: queries, keys and values of all rows; attention, text by text
// and head by head; then, block of rows by block of rows, the rest of the layer.
//
// N tokens and padding, D model, F feed-forward width, A heads, H = D / A. I inputs and O outputs
// of a linear layer.
#include "transformer_encoder.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "attention_head.h"
#include "workers.h"

namespace lorikeet::ops::cpu {

namespace {

using at::Tensor;

/// Rows of a block, and features of the feed-forward's middle that are worked through at once:
/// together with a pane of a weight they stay in the second level of cache.
constexpr int64_t kRows = 128, kFeatures = 256;

template <class T>
constexpr at::ScalarType kDtype = sizeof(T) == 2 ? at::kBFloat16 : at::kFloat;

template <class T>
const T* data(const Tensor& t) {
  return static_cast<const T*>(t.const_data_ptr());
}

/// Calls use(first, size) for pieces of a width.
template <class Use>
void for_pieces(int64_t width, int64_t piece, const Use& use) {
  for (int64_t i = 0; i < width; i += piece) use(i, std::min(piece, width - i));
}

/// A weight as a right operand in panes (level.h), [I, pane] each, the last one narrower.
template <class T>
class PackedLinear {
 public:
  PackedLinear(const VectorKernels& kernels, const EncoderLayer::Linear& linear)
      : I(linear.weight.size(1)),
        O(linear.weight.size(0)),
        weight_(I * O * static_cast<int64_t>(sizeof(T))),
        bias_(linear.bias.to(at::kFloat).contiguous()) {
    const Tensor weight = linear.weight.to(kDtype<T>).contiguous();
    for_pieces(O, pane, [&](int64_t o0, int64_t width) {
      pack_columns(kernels, data<T>(weight) + o0 * I, I, I,
                   {.row = o0, .count = width, .column = o0, .width = width},
                   weight_.template as<T>() + o0 * I);
    });
  }
  /// Rows i0 .. of the pane whose first column is o0 and which is `width` wide.
  const T* columns(int64_t o0, int64_t width, int64_t i0 = 0) const {
    return weight_.template as<T>() + o0 * I + i0 * width;
  }
  const float* bias() const { return data<float>(bias_); }

  const int64_t I, O, pane = level().pane;

 private:
  Buffer weight_;
  Tensor bias_;
};

struct Norm {
  explicit Norm(const EncoderLayer::Norm& norm)
      : weight(norm.weight.to(at::kFloat).contiguous()),
        bias(norm.bias.to(at::kFloat).contiguous()) {}
  Tensor weight, bias;
};

template <class T>
struct PackedLayer {
  PackedLayer(const VectorKernels& kernels, const EncoderLayer& layer)
      : query_key_value(kernels, layer.query_key_value),
        attention_output(kernels, layer.attention_output),
        attention_norm(layer.attention_norm),
        intermediate(kernels, layer.intermediate),
        output(kernels, layer.output),
        output_norm(layer.output_norm) {}
  PackedLinear<T> query_key_value, attention_output;
  Norm attention_norm;
  PackedLinear<T> intermediate, output;
  Norm output_norm;
};

struct Sizes {
  int64_t N, D, F, A;
  double eps;
};

/// What one call works in.
template <class T>
struct Workspace {
  static int64_t bytes(const Sizes& s, int64_t longest) {
    return 2 * Scratch::bytes<T>(s.N * s.D) + Scratch::bytes<T>(s.N * 3 * s.D) +
           Scratch::bytes<T>(kRows * s.D) + Scratch::bytes<T>(kRows * kFeatures) +
           Scratch::bytes<float>(kRows * s.D) + Scratch::bytes<float>(kRows * kWidestPane) +
           AttentionHead<T>::scratch_bytes(longest, s.D / s.A);
  }
  Workspace(const Sizes& s, Scratch scratch)
      : x(scratch.take<T>(s.N * s.D)),
        seen(scratch.take<T>(s.N * s.D)),
        qkv(scratch.take<T>(s.N * 3 * s.D)),
        h(scratch.take<T>(kRows * s.D)),
        wide(scratch.take<T>(kRows * kFeatures)),
        sums(scratch.take<float>(kRows * s.D)),
        piece(scratch.take<float>(kRows * kWidestPane)),
        rest(scratch) {}
  T *x, *seen;          ///< [N, D]; what attention saw
  T* qkv;               ///< [N, 3 D]
  T *h, *wide;          ///< [kRows, D], [kRows, kFeatures]
  float *sums, *piece;  ///< [kRows, D], [kRows, pane]
  Scratch rest;         ///< for attention
};

/// A layer's work on a workspace, whose x it takes and leaves.
template <class T>
class LayerPass {
 public:
  LayerPass(const PackedLayer<T>& layer, const Sizes& sizes, const Workspace<T>& work)
      : kernels_(*level().kernels), layer_(layer), s_(sizes), w_(work) {}

  void run(at::IntArrayRef offsets) const {
    for_pieces(s_.N, kRows, [&](int64_t r0, int64_t rows) { project(r0, rows); });
    for (size_t b = 1; b < offsets.size(); ++b) attend(offsets[b - 1], offsets[b] - offsets[b - 1]);
    for_pieces(s_.N, kRows, [&](int64_t r0, int64_t rows) {
      const T* const seen = w_.seen + r0 * s_.D;
      multiply_all(layer_.attention_output, rows, seen);
      add_norm(rows, layer_.attention_output.bias(), w_.x + r0 * s_.D, layer_.attention_norm, w_.h);
      feed_forward(rows);
      add_norm(rows, layer_.output.bias(), w_.h, layer_.output_norm, w_.x + r0 * s_.D);
    });
  }

 private:
  /// Queries, keys and values of a block of rows.
  void project(int64_t r0, int64_t rows) const {
    const PackedLinear<T>& linear = layer_.query_key_value;
    for_pieces(linear.O, linear.pane, [&](int64_t o0, int64_t width) {
      multiply({rows, width, s_.D, s_.D, width, width, false}, w_.x + r0 * s_.D,
               linear.columns(o0, width), w_.piece);
      T* const out = w_.qkv + r0 * linear.O + o0;
      if constexpr (sizeof(T) == 2) {
        kernels_.add_bias_bf16(rows, width, w_.piece, linear.bias() + o0, out, linear.O);
      } else {
        kernels_.add_bias_f32(rows, width, w_.piece, linear.bias() + o0, out, linear.O);
      }
    });
  }

  void attend(int64_t first, int64_t length) const {
    if (length == 0) return;
    const int64_t H = s_.D / s_.A;
    for (int64_t a = 0; a < s_.A; ++a) {
      AttentionHead<T> head(length, H, /*is_causal=*/false, w_.rest);
      T* const q = w_.qkv + first * 3 * s_.D + a * H;
      head.set_keys({q + s_.D, 3 * s_.D}, {q + 2 * s_.D, 3 * s_.D});
      head.run({q, 3 * s_.D}, {w_.seen + first * s_.D + a * H, s_.D}, /*lse=*/nullptr);
    }
  }

  /// sums = x times the weight.
  void multiply_all(const PackedLinear<T>& linear, int64_t rows, const T* x) const {
    multiply_panes({rows, linear.O, linear.I, linear.I, linear.pane, linear.O, false}, x,
                   linear.columns(0, linear.pane), w_.sums);
  }

  /// sums = gelu(h times the intermediate weight + bias) times the output weight.
  void feed_forward(int64_t rows) const {
    for_pieces(s_.F, kFeatures, [&](int64_t f0, int64_t features) {
      for_pieces(features, layer_.intermediate.pane, [&](int64_t f, int64_t width) {
        multiply({rows, width, s_.D, s_.D, width, width, false}, w_.h,
                 layer_.intermediate.columns(f0 + f, width), w_.piece);
        const float* const bias = layer_.intermediate.bias() + f0 + f;
        if constexpr (sizeof(T) == 2) {
          kernels_.add_bias_gelu_bf16(rows, width, w_.piece, bias, w_.wide + f, kFeatures);
        } else {
          kernels_.add_bias_gelu_f32(rows, width, w_.piece, bias, w_.wide + f, kFeatures);
        }
      });
      for_pieces(s_.D, layer_.output.pane, [&](int64_t o0, int64_t width) {
        multiply({rows, width, features, kFeatures, width, s_.D, f0 > 0}, w_.wide,
                 layer_.output.columns(o0, width, f0), w_.sums + o0);
      });
    });
  }

  /// out = norm(sums + bias + residual)
  void add_norm(int64_t rows, const float* bias, const T* residual, const Norm& norm,
                T* out) const {
    const auto eps = static_cast<float>(s_.eps);
    const float *const weight = data<float>(norm.weight), *const shift = data<float>(norm.bias);
    if constexpr (sizeof(T) == 2) {
      kernels_.add_layer_norm_bf16(rows, s_.D, eps, w_.sums, bias, residual, weight, shift, out);
    } else {
      kernels_.add_layer_norm_f32(rows, s_.D, eps, w_.sums, bias, residual, weight, shift, out);
    }
  }

  const VectorKernels& kernels_;
  const PackedLayer<T>& layer_;
  const Sizes& s_;
  const Workspace<T>& w_;
};

/// Computes in T, whatever the dtype of the weights was.
template <class T>
class EncoderIn : public PackedEncoder {
 public:
  EncoderIn(const std::vector<EncoderLayer>& layers, int64_t num_heads, double norm_eps)
      : sizes_{.N = 0,
               .D = layers[0].output.weight.size(0),
               .F = layers[0].output.weight.size(1),
               .A = num_heads,
               .eps = norm_eps} {
    layers_.reserve(layers.size());
    for (const EncoderLayer& layer : layers) layers_.emplace_back(*level().kernels, layer);
  }

  Tensor forward(const Tensor& x_ND, at::IntArrayRef offsets) const override {
    const Tensor x = x_ND.to(kDtype<T>).contiguous();
    Sizes sizes = sizes_;
    sizes.N = round_up(x.size(0), kWidth);  // so products come in few shapes
    int64_t longest = 0;
    for (size_t b = 1; b < offsets.size(); ++b) {
      longest = std::max(longest, offsets[b] - offsets[b - 1]);
    }
    const Buffer memory(Workspace<T>::bytes(sizes, longest));
    const Workspace<T> work(sizes, Scratch(memory));
    std::copy_n(data<T>(x), x.numel(), work.x);
    for (T* padded : {work.x, work.seen}) {
      std::fill(padded + x.numel(), padded + sizes.N * sizes.D, T{0});
    }
    for (const PackedLayer<T>& layer : layers_) LayerPass<T>(layer, sizes, work).run(offsets);
    release_products();
    const Tensor y = at::empty(x.sizes(), x.options());
    std::copy_n(work.x, y.numel(), static_cast<T*>(y.mutable_data_ptr()));
    return y.to(x_ND.scalar_type());
  }

 private:
  Sizes sizes_;
  std::vector<PackedLayer<T>> layers_;
};

}  // namespace

std::unique_ptr<const PackedEncoder> pack_encoder(const std::vector<EncoderLayer>& layers,
                                                  int64_t num_heads, double norm_eps) {
  const Tensor& weight = layers[0].output.weight;
  const int64_t D = weight.size(0), F = weight.size(1);
  const bool is_bf16 = weight.scalar_type() == at::kBFloat16;
  if (!weight.is_cpu() || (!is_bf16 && weight.scalar_type() != at::kFloat) || D % kWidth != 0 ||
      F % kWidth != 0) {
    return nullptr;
  }
  if (is_bf16 && level().bf16_product && D / num_heads % 2 == 0) {
    return std::make_unique<EncoderIn<uint16_t>>(layers, num_heads, norm_eps);
  }
  if (!level().fast_product) return nullptr;
  return std::make_unique<EncoderIn<float>>(layers, num_heads, norm_eps);
}

}  // namespace lorikeet::ops::cpu
