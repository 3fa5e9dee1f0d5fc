#include "rows.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "blocks.h"
#include "level.h"
#include "workers.h"

namespace lorikeet::ops::cpu {

namespace {

using at::Tensor;

/// Numbers that are worth a thread's waking.
constexpr int64_t kGrain = 16384;
/// Rows whose part of a weight's gradient is summed by one thread.
constexpr int64_t kSummedRows = 128;

bool is_bf16(const Tensor& x) { return x.scalar_type() == at::kBFloat16; }

template <class T>
const T* data(const Tensor& t) {
  return static_cast<const T*>(t.const_data_ptr());
}
template <class T>
T* mutable_data(const Tensor& t) {
  return static_cast<T*>(t.mutable_data_ptr());
}

/// Calls use(begin, end) for ranges of rows of n numbers.
template <class Use>
void for_rows(int64_t rows, int64_t n, const Use& use) {
  at::parallel_for(0, rows, std::max<int64_t>(1, kGrain / std::max<int64_t>(n, 1)), use);
}

}  // namespace

bool has_row_loops(const Tensor& x) {
  return x.is_cpu() && (x.scalar_type() == at::kFloat || is_bf16(x)) && level().kernels != nullptr;
}

std::pair<Tensor, Tensor> rms_norm_forward(const Tensor& given, const Tensor& weight, double eps) {
  const Tensor x = given.contiguous();
  const Tensor y = at::empty_like(x);
  const int64_t D = x.size(-1);
  const Tensor rstd = at::empty(x.sizes().slice(0, x.dim() - 1), x.options().dtype(at::kFloat));
  const auto compute = [&]<class T>(const auto& loop, T) {
    for_rows(rstd.numel(), D, [&](int64_t begin, int64_t end) {
      loop(end - begin, D, static_cast<float>(eps), data<T>(x) + begin * D, data<float>(weight),
           mutable_data<T>(y) + begin * D, mutable_data<float>(rstd) + begin);
    });
  };
  is_bf16(x) ? compute(level().kernels->rms_norm_bf16, uint16_t{})
             : compute(level().kernels->rms_norm_f32, float{});
  return {y, rstd};
}

std::pair<Tensor, Tensor> rms_norm_backward(const Tensor& given_dy, const Tensor& given_x,
                                            const Tensor& weight, const Tensor& rstd) {
  const Tensor dy = given_dy.contiguous(), x = given_x.contiguous();
  const Tensor dx = at::empty_like(x);
  const int64_t D = x.size(-1), rows = rstd.numel(), blocks = ceil_divide(rows, kSummedRows);
  const Tensor parts = at::zeros({blocks, D}, weight.options());
  const auto compute = [&]<class T>(const auto& loop, T) {
    at::parallel_for(0, blocks, 1, [&](int64_t first, int64_t last) {
      for (int64_t b = first; b < last; ++b) {
        const int64_t begin = b * kSummedRows, count = std::min(kSummedRows, rows - begin);
        loop(count, D, data<T>(dy) + begin * D, data<T>(x) + begin * D, data<float>(weight),
             data<float>(rstd) + begin, mutable_data<T>(dx) + begin * D,
             mutable_data<float>(parts) + b * D);
      }
    });
  };
  is_bf16(x) ? compute(level().kernels->rms_norm_backward_bf16, uint16_t{})
             : compute(level().kernels->rms_norm_backward_f32, float{});
  const Tensor dweight = at::zeros_like(weight);
  float* const sum = mutable_data<float>(dweight);
  for (int64_t b = 0; b < blocks; ++b) {
    const float* const part = data<float>(parts) + b * D;
    for (int64_t i = 0; i < D; ++i) sum[i] += part[i];
  }
  return {dx, dweight};
}

Tensor rope(const Tensor& x_BLAH, const Tensor& cos_table, const Tensor& sin_table, bool inverse) {
  const Tensor x = x_BLAH.contiguous(), cos = cos_table.contiguous(), sin = sin_table.contiguous();
  const Tensor y = at::empty_like(x);
  const int64_t A = x.size(2), half = x.size(3) / 2, n = A * 2 * half;
  const int64_t angles = std::max<int64_t>(cos.numel() / std::max<int64_t>(half, 1), 1);
  const float sign = inverse ? -1.0f : 1.0f;
  const auto compute = [&]<class T>(const auto& loop, T) {
    for_rows(x.size(0) * x.size(1), n, [&](int64_t begin, int64_t end) {
      for (int64_t token = begin; token < end; ++token) {
        const int64_t angle = token % angles * half;  // a table that all sequences share repeats
        loop(A, half, sign, data<float>(cos) + angle, data<float>(sin) + angle,
             data<T>(x) + token * n, mutable_data<T>(y) + token * n);
      }
    });
  };
  is_bf16(x) ? compute(level().kernels->rope_bf16, uint16_t{})
             : compute(level().kernels->rope_f32, float{});
  return y;
}

Tensor cross_entropy_(const Tensor& logits, const Tensor& targets_C, bool gradient) {
  const Tensor targets = targets_C.contiguous();
  const int64_t V = logits.size(1);
  const Tensor losses = at::empty({logits.size(0)}, logits.options().dtype(at::kFloat));
  const Workers workers(Scratch::bytes<float>(V));
  const auto compute = [&]<class T>(const auto& loop, T) {
    workers.run(
        logits.size(0),
        [&](int64_t r, Scratch scratch) {
          T* const row = mutable_data<T>(logits) + r * V;
          const int64_t target = data<int64_t>(targets)[r];
          float& loss = mutable_data<float>(losses)[r];
          if (target < 0) {
            loss = 0;
            if (gradient) std::fill_n(row, V, T{0});
          } else {
            loss = loop(V, target, gradient, row, scratch.take<float>(V));
          }
        },
        [] {});
  };
  is_bf16(logits) ? compute(level().kernels->cross_entropy_bf16, uint16_t{})
                  : compute(level().kernels->cross_entropy_f32, float{});
  return losses;
}

}  // namespace lorikeet::ops::cpu
