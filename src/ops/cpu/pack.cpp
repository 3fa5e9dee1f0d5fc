// Operands as the products want them. bf16 pairs along the depth are units of 32 bits, so that both
// dtypes share one transposition.
#include "pack.h"

#include <algorithm>
#include <cstring>

namespace lorikeet::ops::cpu {

namespace {

const uint32_t* bits(const void* data) { return static_cast<const uint32_t*>(data); }
uint32_t* bits(void* data) { return static_cast<uint32_t*>(data); }

void pack_units(const VectorKernels& kernels, const uint32_t* rows, int64_t row, int64_t units,
                const TokenBlock& panel, uint32_t* out) {
  kernels.transpose(panel.count, units, rows, row, out, panel.width);
  if (panel.count == panel.width) return;
  for (int64_t u = 0; u < units; ++u) {
    std::fill(out + u * panel.width + panel.count, out + (u + 1) * panel.width, 0u);
  }
}

}  // namespace

void pack_columns(const VectorKernels& kernels, const float* rows, int64_t row, int64_t D,
                  const TokenBlock& panel, float* out) {
  pack_units(kernels, bits(rows), row, D, panel, bits(out));
}

void pack_columns(const VectorKernels& kernels, const uint16_t* rows, int64_t row, int64_t D,
                  const TokenBlock& panel, uint16_t* out) {
  pack_units(kernels, bits(rows), row / 2, D / 2, panel, bits(out));
}

void pack_depth(const VectorKernels&, const float* from, int64_t D, int64_t columns,
                const TokenBlock& strip, float* out) {
  for (int64_t t = 0; t < strip.count; ++t) {
    std::memcpy(out + t * columns, from + t * D, columns * sizeof(float));
  }
  std::fill(out + strip.count * columns, out + strip.width * columns, 0.0f);
}

void pack_depth(const VectorKernels& kernels, const uint16_t* from, int64_t D, int64_t columns,
                const TokenBlock& strip, uint16_t* out) {
  const int64_t even = strip.count / 2 * 2;
  for (int64_t t = 0; t < even; t += 2) {
    kernels.pair_rows_bf16(columns, from + t * D, from + (t + 1) * D, out + t * columns);
  }
  std::fill(out + even * columns, out + strip.width * columns, uint16_t{0});
  if (even == strip.count) return;
  for (int64_t c = 0; c < columns; ++c) out[even * columns + 2 * c] = from[even * D + c];
}

void store_depth(const VectorKernels&, int64_t rows, int64_t n, const float* from, float* to) {
  std::memcpy(to, from, rows * n * sizeof(float));
}

void store_depth(const VectorKernels& kernels, int64_t rows, int64_t n, const float* from,
                 uint16_t* to) {
  for (int64_t r = 0; r < rows; r += 2) {
    kernels.pair_rows(n, from + r * n, from + (r + 1) * n, to + r * n);
  }
}

void store_transposed(const VectorKernels& kernels, int64_t rows, int64_t columns,
                      const float* from, float* to, int64_t to_row, uint16_t*) {
  kernels.transpose(rows, columns, bits(from), columns, bits(to), to_row);
}

void store_transposed(const VectorKernels& kernels, int64_t rows, int64_t columns,
                      const float* from, uint16_t* to, int64_t to_row, uint16_t* scratch) {
  store_depth(kernels, rows, columns, from, scratch);
  kernels.transpose(rows / 2, columns, bits(scratch), columns, bits(to), to_row / 2);
}

}  // namespace lorikeet::ops::cpu
