#pragma once
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

/// To be called by a thread that multiplied, when it is done.
void release_products();

}  // namespace lorikeet::ops::cpu
