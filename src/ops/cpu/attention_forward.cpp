// Attention's forward over batches and heads.
#include <ATen/ATen.h>

#include "attention.h"
#include "attention_blocks.h"
#include "attention_head.h"

namespace lorikeet::ops::cpu {

namespace {

using at::Tensor;

template <class T>
void forward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& y,
             const Tensor& lse) {
  const int64_t L = q.size(2), H = q.size(3), group = q.size(1) / k.size(1);
  for_key_heads(k, AttentionHead<T>::scratch_bytes(L, H),
                [&](int64_t b, int64_t head, Scratch scratch) {
                  AttentionHead<T> task(L, H, /*is_causal=*/true, scratch);
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
