// Operands as the products want them. bf16 pairs along the depth are units of 32 bits, so that both
// dtypes share one transposition.
#include "pack.h"

#include <algorithm>
#include <cstring>

#include "blocks.h"

namespace lorikeet::ops::cpu {

namespace {

const uint32_t* bits(const void* data) { return static_cast<const uint32_t*>(data); }
uint32_t* bits(void* data) { return static_cast<uint32_t*>(data); }

/// Zeros beyond the panel's tokens.
void pad_units(int64_t units, const TokenBlock& panel, uint32_t* out) {
  if (panel.count == panel.width) return;
  for (int64_t u = 0; u < units; ++u) {
    std::fill(out + u * panel.width + panel.count, out + (u + 1) * panel.width, 0u);
  }
}

void pack_units(const VectorKernels& kernels, const uint32_t* rows, int64_t row, int64_t units,
                const TokenBlock& panel, uint32_t* out) {
  kernels.transpose(panel.count, units, rows, row, out, panel.width);
  pad_units(units, panel, out);
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

void pack_columns(const VectorKernels& kernels, const uint16_t* rows, int64_t row, int64_t D,
                  const TokenBlock& panel, float* out) {
  constexpr int64_t kFeatures = 128;  // at a time: 8 KB
  float wide[kWidthStep * kFeatures];
  for (int64_t d0 = 0; d0 < D; d0 += kFeatures) {
    const int64_t features = std::min(kFeatures, D - d0);
    for (int64_t t0 = 0; t0 < panel.count; t0 += kWidthStep) {
      const int64_t tokens = std::min(kWidthStep, panel.count - t0);
      for (int64_t t = 0; t < tokens; ++t) {
        kernels.from_bf16(features, rows + (t0 + t) * row + d0, wide + t * features);
      }
      kernels.transpose(tokens, features, bits(wide), features, bits(out) + d0 * panel.width + t0,
                        panel.width);
    }
  }
  pad_units(D, panel, bits(out));
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

void pack_depth(const VectorKernels& kernels, const uint16_t* from, int64_t D, int64_t columns,
                const TokenBlock& strip, float* out) {
  for (int64_t t = 0; t < strip.count; ++t) {
    kernels.from_bf16(columns, from + t * D, out + t * columns);
  }
  std::fill(out + strip.count * columns, out + strip.width * columns, 0.0f);
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
