// The loop nest of attention's forward: for each block of queries, blocks of keys one after the
// other, with the softmax's maxima and sums carried along.
#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "attention.h"
#include "attention_blocks.h"
#include "level.h"
#include "product.h"
#include "workers.h"

namespace lorikeet::ops::cpu {

namespace {

using at::Tensor;

template <class T>
class ForwardTask {
 public:
  static int64_t scratch_bytes(int64_t L, int64_t H) {
    return KeyRows<T>::scratch_bytes(H) + Scratch::bytes<T>(H * round_up(L, kKeyBlock)) +
           Scratch::bytes<T>(H * kQueryBlock) + Scratch::bytes<T>(kKeyBlock * kQueryBlock) +
           Scratch::bytes<float>(std::max(kKeyBlock * kQueryBlock, 2 * kKeyBlock * H)) +
           2 * Scratch::bytes<float>(H * kQueryBlock) + 3 * Scratch::bytes<float>(kQueryBlock);
  }

  ForwardTask(int64_t L, int64_t H, Scratch scratch)
      : kernels_(*level().kernels),
        L_(L),
        H_(H),
        scale_(1 / std::sqrt(static_cast<float>(H))),
        keys_(L, H, scratch),
        values_(scratch.take<T>(H * round_up(L, kKeyBlock))),
        queries_(scratch.take<T>(H * kQueryBlock)),
        weights_(scratch.take<T>(kKeyBlock * kQueryBlock)),
        scores_(scratch.take<float>(std::max(kKeyBlock * kQueryBlock, 2 * kKeyBlock * H))),
        y_(scratch.take<float>(H * kQueryBlock)),
        turned_(scratch.take<float>(H * kQueryBlock)),
        largest_(scratch.take<float>(kQueryBlock)),
        sums_(scratch.take<float>(kQueryBlock)),
        kept_(scratch.take<float>(kQueryBlock)) {}

  void set_keys(const Head<T>& k, const Head<T>& v) {
    keys_.set(k);
    transpose_tokens(kernels_, v, L_, H_, values_, scores_);
  }

  void run(const Head<T>& q, const Head<T>& y, float* lse) {
    for (int64_t q0 = 0; q0 < L_; q0 += kQueryBlock) {
      const int64_t count = std::min(kQueryBlock, L_ - q0), W = round_up(count, kWidth);
      pack_columns(kernels_, q.row(q0), q.stride, H_,
                   {.row = q0, .count = count, .column = q0, .width = W}, queries_);
      std::fill_n(largest_, W, -std::numeric_limits<float>::infinity());
      std::fill_n(sums_, W, 0.0f);
      for (int64_t k0 = 0; k0 < q0 + count; k0 += kKeyBlock) add_keys(k0, q0, W);
      for (int64_t i = 0; i < W; ++i) kept_[i] = 1 / sums_[i];
      kernels_.scale_columns(H_, W, kept_, y_);
      kernels_.transpose(H_, W, reinterpret_cast<const uint32_t*>(y_), W,
                         reinterpret_cast<uint32_t*>(turned_), H_);
      for (int64_t i = 0; i < count; ++i) {
        store_row(kernels_, H_, turned_ + i * H_, y.row(q0 + i));
        lse[q0 + i] = largest_[i] + std::log(sums_[i]);
      }
    }
  }

 private:
  /// y [H, W] so far, with one block of keys more.
  void add_keys(int64_t k0, int64_t q0, int64_t W) {
    const Head<T> k = keys_.block(k0);
    const int64_t keys = keys_.rows(k0);
    multiply({keys, W, H_, k.stride, W, W, false}, k.data, queries_, scores_);
    mask_later_keys(k0, keys, q0, W, -std::numeric_limits<float>::infinity(), scores_);
    kernels_.softmax_step(keys, W, scale_, scores_, largest_, sums_, kept_);
    mask_later_keys(k0, keys, q0, W, 0.0f, scores_);
    store_depth(kernels_, keys, W, scores_, weights_);
    if (k0 > 0) kernels_.scale_columns(H_, W, kept_, y_);
    multiply({H_, W, keys, kKeyBlock, W, W, k0 > 0}, values_ + k0 * H_, weights_, y_);
  }

  const VectorKernels& kernels_;
  const int64_t L_, H_;
  const float scale_;
  KeyRows<T> keys_;
  T *values_, *queries_, *weights_;
  float *scores_, *y_, *turned_, *largest_, *sums_, *kept_;
};

template <class T>
void forward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& y,
             const Tensor& lse) {
  const int64_t L = q.size(2), H = q.size(3), group = q.size(1) / k.size(1);
  for_key_heads(k, ForwardTask<T>::scratch_bytes(L, H),
                [&](int64_t b, int64_t head, Scratch scratch) {
                  ForwardTask<T> task(L, H, scratch);
                  task.set_keys(head_of<T>(k, b, head), head_of<T>(v, b, head));
                  for (int64_t a = head * group; a < (head + 1) * group; ++a) {
                    task.run(head_of<T>(q, b, a), head_of<T>(y, b, a),
                             lse.mutable_data_ptr<float>() + (b * q.size(1) + a) * L);
                  }
                });
}

}  // namespace

std::pair<Tensor, Tensor> attention_forward(const Tensor& q_BALH, const Tensor& k_BKLH,
                                            const Tensor& v_BKLH) {
  if (is_done_in_fp32(q_BALH)) {
    const auto [y, lse] =
        attention_forward(q_BALH.to(at::kFloat), k_BKLH.to(at::kFloat), v_BKLH.to(at::kFloat));
    return {y.to(at::kBFloat16), lse};
  }
  const Tensor q = with_readable_rows(q_BALH), k = with_readable_rows(k_BKLH),
               v = with_readable_rows(v_BKLH);
  const Tensor y = empty_by_token(q);
  const Tensor lse = at::empty({q.size(0), q.size(1), q.size(2)}, q.options().dtype(at::kFloat));
  if (q.scalar_type() == at::kBFloat16) {
    forward<uint16_t>(q, k, v, y, lse);
  } else {
    forward<float>(q, k, v, y, lse);
  }
  return {y, lse};
}

}  // namespace lorikeet::ops::cpu
