// The loop nest of attention's backward: for each block of keys, the blocks of queries that see it.
// With P the softmax's weights, dP = dy v^T and dS = scale P (dP - <dy, y>):
//
//   dv = P^T dy      dk = dS^T q      dq = dS k
#include <ATen/ATen.h>

#include <cmath>

#include "attention.h"
#include "attention_blocks.h"
#include "level.h"
#include "product.h"
#include "workers.h"

namespace lorikeet::ops::cpu {

namespace {

using at::Tensor;

template <class T>
struct QueryHead {
  Head<T> q, y, dy, dq;
  const float* lse;
};

template <class T>
class BackwardTask {
 public:
  static int64_t scratch_bytes(int64_t L, int64_t H) {
    const int64_t padded = round_up(L, kWidth), block = kKeyBlock * kQueryBlock;
    return 2 * KeyRows<T>::scratch_bytes(H) + Scratch::bytes<T>(round_up(L, kKeyBlock) * H) +
           4 * Scratch::bytes<T>(padded * H) + 3 * Scratch::bytes<float>(padded * H) +
           2 * Scratch::bytes<float>(padded) + 2 * Scratch::bytes<T>(block) +
           2 * Scratch::bytes<float>(block) + Scratch::bytes<float>(2 * kKeyBlock * H) +
           Scratch::bytes<float>(kQueryBlock * H);
  }

  BackwardTask(int64_t L, int64_t H, const Head<T>& k, const Head<T>& v, Scratch scratch)
      : kernels_(*level().kernels),
        L_(L),
        H_(H),
        padded_(round_up(L, kWidth)),
        scale_(1 / std::sqrt(static_cast<float>(H))),
        k_(L, H, scratch),
        v_(L, H, scratch) {
    k_.set(k);
    v_.set(v);
    keys_ = scratch.take<T>(round_up(L, kKeyBlock) * H);
    for (T** part : {&q_columns_, &dy_columns_, &q_depth_, &dy_depth_}) {
      *part = scratch.take<T>(padded_ * H);
    }
    for (float** part : {&dk_, &dv_, &dq_}) *part = scratch.take<float>(padded_ * H);
    for (float** part : {&lse_, &delta_}) *part = scratch.take<float>(padded_);
    for (T** part : {&left_, &right_}) *part = scratch.take<T>(kKeyBlock * kQueryBlock);
    for (float** part : {&scores_, &gradients_}) {
      *part = scratch.take<float>(kKeyBlock * kQueryBlock);
    }
    rows_ = scratch.take<float>(2 * kKeyBlock * H);
    turned_ = scratch.take<float>(kQueryBlock * H);
    transpose_tokens(kernels_, k, L, H, keys_, rows_);
    std::fill_n(dk_, padded_ * H, 0.0f);
    std::fill_n(dv_, padded_ * H, 0.0f);
  }

  /// Adds one query head's part to dk and dv, and writes its dq.
  void add(const QueryHead<T>& head) {
    prepare(head);
    for (int64_t k0 = 0; k0 < L_; k0 += kKeyBlock) {
      for (int64_t q0 = k0 / kQueryBlock * kQueryBlock; q0 < L_; q0 += kQueryBlock) block(k0, q0);
    }
    for (int64_t q0 = 0; q0 < L_; q0 += kQueryBlock) {
      const int64_t W = width(q0);
      kernels_.transpose(H_, W, reinterpret_cast<const uint32_t*>(dq_ + q0 * H_), W,
                         reinterpret_cast<uint32_t*>(turned_), H_);
      store_rows(turned_, {head.dq.row(q0), head.dq.stride}, std::min(kQueryBlock, L_ - q0));
    }
  }

  void store(const Head<T>& dk, const Head<T>& dv) const {
    store_rows(dk_, dk, L_);
    store_rows(dv_, dv, L_);
  }

 private:
  int64_t width(int64_t q0) const { return std::min(kQueryBlock, padded_ - q0); }

  void store_rows(const float* from, const Head<T>& to, int64_t count) const {
    for (int64_t t = 0; t < count; ++t) store_row(kernels_, H_, from + t * H_, to.row(t));
  }

  /// q and dy as right operands of both kinds, <dy, y>, and zeros where products add up.
  void prepare(const QueryHead<T>& head) {
    for (int64_t q0 = 0; q0 < L_; q0 += kQueryBlock) {
      const int64_t count = std::min(kQueryBlock, L_ - q0), W = width(q0);
      const TokenBlock tokens{.row = q0, .count = count, .column = q0, .width = W};
      pack_columns(kernels_, head.q.row(q0), head.q.stride, H_, tokens, q_columns_ + q0 * H_);
      pack_columns(kernels_, head.dy.row(q0), head.dy.stride, H_, tokens, dy_columns_ + q0 * H_);
      pack_depth(kernels_, head.q.row(q0), head.q.stride, H_, tokens, q_depth_ + q0 * H_);
      pack_depth(kernels_, head.dy.row(q0), head.dy.stride, H_, tokens, dy_depth_ + q0 * H_);
    }
    std::fill_n(dq_, padded_ * H_, 0.0f);
    std::fill(lse_ + L_, lse_ + padded_, 0.0f);
    std::fill(delta_ + L_, delta_ + padded_, 0.0f);
    std::copy_n(head.lse, L_, lse_);
    row_dots(head.dy, head.y);
  }

  void row_dots(const Head<float>& a, const Head<float>& b) {
    kernels_.row_dots_f32(L_, H_, a.data, a.stride, b.data, b.stride, delta_);
  }
  void row_dots(const Head<uint16_t>& a, const Head<uint16_t>& b) {
    kernels_.row_dots_bf16(L_, H_, a.data, a.stride, b.data, b.stride, delta_);
  }

  void block(int64_t k0, int64_t q0) {
    const Head<T> k = k_.block(k0), v = v_.block(k0);
    const int64_t keys = k_.rows(k0), W = width(q0);
    multiply({keys, W, H_, k.stride, W, W, false}, k.data, q_columns_ + q0 * H_, scores_);
    multiply({keys, W, H_, v.stride, W, W, false}, v.data, dy_columns_ + q0 * H_, gradients_);
    kernels_.attention_gradient(keys, W, scale_, lse_ + q0, delta_ + q0, scores_, gradients_);
    mask_later_keys(k0, keys, q0, W, 0.0f, scores_);
    mask_later_keys(k0, keys, q0, W, 0.0f, gradients_);
    store_row(kernels_, keys * W, scores_, left_);
    multiply({keys, H_, W, W, H_, H_, true}, left_, dy_depth_ + q0 * H_, dv_ + k0 * H_);
    store_row(kernels_, keys * W, gradients_, left_);
    multiply({keys, H_, W, W, H_, H_, true}, left_, q_depth_ + q0 * H_, dk_ + k0 * H_);
    store_depth(kernels_, keys, W, gradients_, right_);
    multiply({H_, W, keys, kKeyBlock, W, W, true}, keys_ + k0 * H_, right_, dq_ + q0 * H_);
  }

  const VectorKernels& kernels_;
  const int64_t L_, H_, padded_;
  const float scale_;
  KeyRows<T> k_, v_;
  T *keys_, *q_columns_, *dy_columns_, *q_depth_, *dy_depth_, *left_, *right_;
  float *dk_, *dv_, *dq_, *lse_, *delta_, *scores_, *gradients_, *rows_, *turned_;
};

struct Gradients {
  Tensor q, k, v;
};

template <class T>
void backward(const Tensor& dy, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& y,
              const Tensor& lse, const Gradients& to) {
  const int64_t L = q.size(2), H = q.size(3), group = q.size(1) / k.size(1);
  for_key_heads(
      k, BackwardTask<T>::scratch_bytes(L, H), [&](int64_t b, int64_t head, Scratch scratch) {
        BackwardTask<T> task(L, H, head_of<T>(k, b, head), head_of<T>(v, b, head), scratch);
        for (int64_t a = head * group; a < (head + 1) * group; ++a) {
          task.add({head_of<T>(q, b, a), head_of<T>(y, b, a), head_of<T>(dy, b, a),
                    head_of<T>(to.q, b, a), lse.const_data_ptr<float>() + (b * q.size(1) + a) * L});
        }
        task.store(head_of<T>(to.k, b, head), head_of<T>(to.v, b, head));
      });
}

}  // namespace

std::array<Tensor, 3> attention_backward(const Tensor& dy_BALH, const Tensor& q_BALH,
                                         const Tensor& k_BKLH, const Tensor& v_BKLH,
                                         const Tensor& y_BALH, const Tensor& lse_BAL) {
  if (is_done_in_fp32(q_BALH)) {
    const auto wide = [](const Tensor& t) { return t.to(at::kFloat); };
    auto gradients = attention_backward(wide(dy_BALH), wide(q_BALH), wide(k_BKLH), wide(v_BKLH),
                                        wide(y_BALH), lse_BAL);
    for (Tensor& gradient : gradients) gradient = gradient.to(at::kBFloat16);
    return gradients;
  }
  const Gradients to{empty_by_token(q_BALH), empty_by_token(k_BKLH), empty_by_token(v_BKLH)};
  const auto compute = [&]<class T>(T) {
    backward<T>(with_readable_rows(dy_BALH), with_readable_rows(q_BALH), with_readable_rows(k_BKLH),
                with_readable_rows(v_BKLH), y_BALH, lse_BAL, to);
  };
  if (q_BALH.scalar_type() == at::kBFloat16) {
    compute(uint16_t{});
  } else {
    compute(float{});
  }
  return {to.q, to.k, to.v};
}

}  // namespace lorikeet::ops::cpu
