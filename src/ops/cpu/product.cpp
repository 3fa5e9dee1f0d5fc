// Small matrix products: oneDNN's micro-kernels as ATen exposes them, plain loops without.
#include "product.h"

#include <ATen/native/CPUBlas.h>

#include "level.h"

namespace lorikeet::ops::cpu {

namespace {

void multiply_plainly(const Product& p, const float* A, const float* B, float* C) {
  for (int64_t m = 0; m < p.M; ++m) {
    float* const row = C + m * p.ldc;
    if (!p.accumulate) {
      for (int64_t n = 0; n < p.N; ++n) row[n] = 0;
    }
    for (int64_t k = 0; k < p.K; ++k) {
      const float a = A[m * p.lda + k];
      const float* const b = B + k * p.ldb;
      for (int64_t n = 0; n < p.N; ++n) row[n] += a * b[n];
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
  at::native::cpublas::brgemm(p.M, p.N, p.K, p.lda, p.ldb, p.ldc, p.accumulate,
                              reinterpret_cast<const at::BFloat16*>(A),
                              reinterpret_cast<const at::BFloat16*>(B), C, /*is_vnni=*/true);
}

// Only AMX has anything to release, and only bf16 uses it.
void release_products() {
  if (level().bf16_product) at::native::cpublas::brgemm_release(/*is_vnni=*/true);
}

}  // namespace lorikeet::ops::cpu
