#pragma once
#include <algorithm>
#include <cstdint>

namespace lorikeet::ops::cpu {

/// C [M, N] (+)= A [M, K] B [K, N], all row-major with the given row lengths, C in fp32. For bf16
/// (uint16_t) B is in pair rows: row k / 2 holds rows k and k + 1 interleaved, K is even, and ldb
/// counts columns.
struct Product {
  int64_t M, N, K, lda, ldb, ldc;
  bool accumulate;
};
void multiply(const Product& p, const float* A, const float* B, float* C);
void multiply(const Product& p, const uint16_t* A, const uint16_t* B, float* C);

/// The same with B in panes of `ldb` columns, one after the other: [K, ldb] each, the last maybe
/// narrower.
template <class T>
void multiply_panes(const Product& p, const T* A, const T* B, float* C) {
  for (int64_t n = 0; n < p.N; n += p.ldb) {
    const int64_t width = std::min(p.ldb, p.N - n);
    multiply({p.M, width, p.K, p.lda, width, p.ldc, p.accumulate}, A, B + n * p.K, C + n);
  }
}

/// To be called by a thread that multiplied, when it is done.
void release_products();

}  // namespace lorikeet::ops::cpu
