// Small matrix products: oneDNN's micro-kernels as ATen exposes them, plain loops without.
#include "product.h"

#include <ATen/native/CPUBlas.h>

#include <algorithm>
#include <bit>

#include "level.h"

namespace lorikeet::ops::cpu {

namespace {

float widen(float value) { return value; }
float widen(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

template <class T>
void multiply_plainly(const Product& p, const T* A, const T* B, float* C) {
  constexpr int64_t kDepth = 4 / sizeof(T);  // rows of B that lie interleaved
  for (int64_t m = 0; m < p.M; ++m) {
    float* const row = C + m * p.ldc;
    if (!p.accumulate) std::fill_n(row, p.N, 0.0f);
    for (int64_t k = 0; k < p.K; ++k) {
      const float a = widen(A[m * p.lda + k]);
      const T* const b = B + k / kDepth * kDepth * p.ldb + k % kDepth;
      for (int64_t n = 0; n < p.N; ++n) row[n] += a * widen(b[n * kDepth]);
    }
  }
}

}  // namespace

void multiply(const Product& p, const float* A, const float* B, float* C) {
  if (!level().fast_product) return multiply_plainly(p, A, B, C);
  at::native::cpublas::brgemm(p.M, p.N, p.K, p.lda, p.ldb, p.ldc, p.accumulate, A, B, C,
                              /*is_vnni=*/false);
}

void multiply(const Product& p, const uint16_t* A, const uint16_t* B, float* C) {
  if (!level().fast_product) return multiply_plainly(p, A, B, C);
  at::native::cpublas::brgemm(p.M, p.N, p.K, p.lda, p.ldb, p.ldc, p.accumulate,
                              reinterpret_cast<const at::BFloat16*>(A),
                              reinterpret_cast<const at::BFloat16*>(B), C, /*is_vnni=*/true);
}

// Only AMX has anything to release, and only bf16 uses it.
void release_products() {
  if (level().fast_product && level().bf16_product)
    at::native::cpublas::brgemm_release(/*is_vnni=*/true);
}

}  // namespace lorikeet::ops::cpu
