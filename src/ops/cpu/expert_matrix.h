#pragma once
#include <ATen/core/Tensor.h>

#include "kernels.h"

namespace lorikeet::ops::cpu {

/// One matrix of all experts, [E, O, I], in fp32 or bf16.
struct ExpertMatrix {
  explicit ExpertMatrix(const at::Tensor& weight)
      : data(weight.const_data_ptr()),
        is_bf16(weight.scalar_type() == at::kBFloat16),
        experts(weight.size(0)),
        columns(weight.size(2)),
        matrix(weight.size(1) * weight.size(2)) {}
  Strides strides() const { return {matrix, columns}; }
  const void* data;
  bool is_bf16;
  int64_t experts, columns, matrix;  ///< matrix: O * I
};

/// Rows row .. row + rows and columns column .. column + columns of a matrix.
struct Tile {
  int64_t row, rows, column, columns;
  int64_t numbers() const { return rows * columns; }
};

/// Calls use(the first expert's first number of the tile), float or bf16.
template <class Use>
void with_tile(const ExpertMatrix& experts, const Tile& tile, const Use& use) {
  const int64_t first = tile.row * experts.columns + tile.column;
  if (experts.is_bf16) {
    use(static_cast<const uint16_t*>(experts.data) + first);
  } else {
    use(static_cast<const float*>(experts.data) + first);
  }
}

}  // namespace lorikeet::ops::cpu
