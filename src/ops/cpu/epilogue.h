#pragma once
// What follows a product of merged_ffn while its tile is in cache: SwiGLU or its gradient,
// rounding, and the orientation in which the next product reads it.
//
// D model, F feed-forward width, R features of a tile, P a panel's width.
#include <ATen/core/Tensor.h>

#include "backward_owner.h"
#include "kernels.h"
#include "plan.h"
#include "workers.h"

namespace lorikeet::ops::cpu {

/// a = gate x and b = up x, which forward keeps for backward in fp32 or bf16: of each panel [F, P],
/// panels one after the other.
class SavedProducts {
 public:
  /// @param a,b [F * Plan::columns], or empty
  SavedProducts(const at::Tensor& a, const at::Tensor& b, int64_t F);
  bool exist() const { return a_ != nullptr; }
  /// Features f .. + rows of a panel. @param ab [2 R, P], a above b
  void put(const VectorKernels& kernels, const TokenBlock& panel, int64_t f, int64_t rows,
           const float* ab) const;
  /// @param wide R * P numbers, where they are put if they are not fp32 already
  const float* a(const VectorKernels& kernels, const TokenBlock& panel, int64_t f, int64_t rows,
                 float* wide) const {
    return read(kernels, a_, panel, f, rows, wide);
  }
  const float* b(const VectorKernels& kernels, const TokenBlock& panel, int64_t f, int64_t rows,
                 float* wide) const {
    return read(kernels, b_, panel, f, rows, wide);
  }

 private:
  const float* read(const VectorKernels& kernels, const void* saved, const TokenBlock& panel,
                    int64_t f, int64_t rows, float* wide) const;
  int64_t place(const TokenBlock& panel, int64_t f) const {
    return panel.column * F_ + f * panel.width;
  }

  void *a_, *b_;
  bool is_bf16_;
  int64_t F_;
};

/// h = silu(a) b, the right operand of the product with down.
/// @param ab [2 R, P], a above b @param scratch R * P numbers
template <class T>
void store_hidden(const VectorKernels& kernels, int64_t rows, int64_t width, const float* ab, T* h,
                  float* scratch);

/// From dh: da, db and h, into OwnerJob::hidden, in those orientations that are needed.
template <class T>
class HiddenEpilogue {
 public:
  static int64_t scratch_bytes();
  /// For features f0 + begin .. + rows, of the outer block that begins at f0.
  HiddenEpilogue(const OwnerJob<T>& owner, const SavedProducts& saved, int64_t F, int64_t f0,
                 int64_t begin, int64_t rows, Scratch& scratch);
  /// @param dh_PR  of the panel's tokens @param strip that holds the panel
  void run(const TokenBlock& panel, const TokenBlock& strip, const float* dh_PR);

 private:
  void store_features(const TokenBlock& panel, const TokenBlock& strip);
  void store_tokens(const TokenBlock& panel);

  const OwnerJob<T>& owner_;
  const SavedProducts& saved_;
  const int64_t size_, f0_, begin_, rows_;  // size: of the outer block, smaller in the last one
  uint16_t* pairs_;
  float *dh_, *a_, *b_, *da_, *db_, *h_;
};

}  // namespace lorikeet::ops::cpu
