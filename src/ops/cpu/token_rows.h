#pragma once
#include <ATen/core/Tensor.h>

#include <type_traits>

#include "pack.h"

namespace lorikeet::ops::cpu {

/// Tokens' rows as the caller has them, for computing in T: of T itself, or bf16 for computing in
/// fp32. There is no copy in fp32: who reads a block of tokens packs it anyway.
template <class T>
class TokenRows {
 public:
  TokenRows() = default;
  /// @param rows [N, width], contiguous
  explicit TokenRows(const at::Tensor& rows)
      : data_(rows.const_data_ptr()),
        width_(rows.size(1)),
        is_wider_(rows.element_size() < static_cast<int64_t>(sizeof(T))) {}

  int64_t width() const { return width_; }
  /// Calls use(numbers of `row` from `column` on, those of later rows being width() apart).
  template <class Use>
  void read(int64_t row, int64_t column, const Use& use) const {
    const int64_t first = row * width_ + column;
    if constexpr (std::is_same_v<T, float>) {
      if (is_wider_) return use(static_cast<const uint16_t*>(data_) + first);
    }
    use(static_cast<const T*>(data_) + first);
  }
  /// `count` numbers from there on, in T.
  void copy(const VectorKernels& kernels, int64_t row, int64_t column, int64_t count, T* to) const {
    read(row, column, [&](const auto* from) { read_row(kernels, count, from, to); });
  }
  /// Where they lie; null if that is not in T.
  const T* in_place(int64_t row) const {
    return is_wider_ ? nullptr : static_cast<const T*>(data_) + row * width_;
  }

 private:
  const void* data_ = nullptr;
  int64_t width_ = 0;
  bool is_wider_ = false;  // T is wider than the rows' dtype
};

}  // namespace lorikeet::ops::cpu
