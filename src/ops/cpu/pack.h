#pragma once
#include <cstdint>
#include <cstring>

#include "kernels.h"
#include "plan.h"

namespace lorikeet::ops::cpu {

/// A panel's tokens as columns, the right operand of products over features: [D, width], in bf16
/// [D / 2, width] pairs. Padding is zero. @param rows the panel's first token, D features each
/// @param row from token to token; even for bf16
void pack_columns(const VectorKernels& kernels, const float* rows, int64_t row, int64_t D,
                  const TokenBlock& panel, float* out);
void pack_columns(const VectorKernels& kernels, const uint16_t* rows, int64_t row, int64_t D,
                  const TokenBlock& panel, uint16_t* out);
/// Of bf16 rows, in fp32; `row` is any.
void pack_columns(const VectorKernels& kernels, const uint16_t* rows, int64_t row, int64_t D,
                  const TokenBlock& panel, float* out);

/// `columns` features of a strip's tokens, the right operand of products over tokens: [width,
/// columns], in bf16 [width / 2, columns] pairs. Padding is zero. @param from the first token's
/// first feature @param D the length of its rows
void pack_depth(const VectorKernels& kernels, const float* from, int64_t D, int64_t columns,
                const TokenBlock& strip, float* out);
void pack_depth(const VectorKernels& kernels, const uint16_t* from, int64_t D, int64_t columns,
                const TokenBlock& strip, uint16_t* out);
void pack_depth(const VectorKernels& kernels, const uint16_t* from, int64_t D, int64_t columns,
                const TokenBlock& strip, float* out);

/// fp32 numbers stored as they are, or rounded to bf16.
inline void store_row(const VectorKernels&, int64_t n, const float* from, float* to) {
  std::memcpy(to, from, n * sizeof(float));
}
inline void store_row(const VectorKernels& kernels, int64_t n, const float* from, uint16_t* to) {
  kernels.to_bf16(n, from, to);
}

/// Numbers as fp32.
inline void widen_row(const VectorKernels&, int64_t n, const float* from, float* to) {
  std::memcpy(to, from, n * sizeof(float));
}
inline void widen_row(const VectorKernels& kernels, int64_t n, const uint16_t* from, float* to) {
  kernels.from_bf16(n, from, to);
}

/// Numbers as they are, or bf16 ones as fp32.
template <class T>
void read_row(const VectorKernels&, int64_t n, const T* from, T* to) {
  std::memcpy(to, from, n * sizeof(T));
}
inline void read_row(const VectorKernels& kernels, int64_t n, const uint16_t* from, float* to) {
  kernels.from_bf16(n, from, to);
}

/// rows x n numbers as a right operand whose depth are the rows: itself, or bf16 pair rows.
void store_depth(const VectorKernels& kernels, int64_t rows, int64_t n, const float* from,
                 float* to);
void store_depth(const VectorKernels& kernels, int64_t rows, int64_t n, const float* from,
                 uint16_t* to);

/// to[c * to_row + r] = from[r * columns + c]. @param scratch rows * columns numbers
void store_transposed(const VectorKernels& kernels, int64_t rows, int64_t columns,
                      const float* from, float* to, int64_t to_row, uint16_t* scratch);
void store_transposed(const VectorKernels& kernels, int64_t rows, int64_t columns,
                      const float* from, uint16_t* to, int64_t to_row, uint16_t* scratch);

}  // namespace lorikeet::ops::cpu
