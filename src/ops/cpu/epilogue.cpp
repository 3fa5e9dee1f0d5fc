#include "epilogue.h"

#include <algorithm>
#include <type_traits>

#include "pack.h"

namespace lorikeet::ops::cpu {

SavedProducts::SavedProducts(const at::Tensor& a, const at::Tensor& b, int64_t F)
    : a_(a.numel() == 0 ? nullptr : const_cast<void*>(a.const_data_ptr())),
      b_(const_cast<void*>(b.const_data_ptr())),
      is_bf16_(a.scalar_type() == at::kBFloat16),
      F_(F) {}

void SavedProducts::put(const VectorKernels& kernels, const TokenBlock& panel, int64_t f,
                        int64_t rows, const float* ab) const {
  const int64_t first = place(panel, f), count = rows * panel.width;
  for (void* const saved : {a_, b_}) {
    if (is_bf16_) {
      store_row(kernels, count, ab, static_cast<uint16_t*>(saved) + first);
    } else {
      store_row(kernels, count, ab, static_cast<float*>(saved) + first);
    }
    ab += count;
  }
}

const float* SavedProducts::read(const VectorKernels& kernels, const void* saved,
                                 const TokenBlock& panel, int64_t f, int64_t rows,
                                 float* wide) const {
  const int64_t first = place(panel, f);
  if (!is_bf16_) return static_cast<const float*>(saved) + first;
  kernels.from_bf16(rows * panel.width, static_cast<const uint16_t*>(saved) + first, wide);
  return wide;
}

template <class T>
void store_hidden(const VectorKernels& kernels, int64_t rows, int64_t width, const float* ab, T* h,
                  float* scratch) {
  const int64_t count = rows * width;
  if constexpr (std::is_same_v<T, float>) {
    kernels.swiglu(count, ab, ab + count, h);
  } else {
    kernels.swiglu(count, ab, ab + count, scratch);
    store_depth(kernels, rows, width, scratch, h);
  }
}

template <class T>
int64_t HiddenEpilogue<T>::scratch_bytes() {
  return Scratch::bytes<uint16_t>(kFeatureBlock * Plan::kWidestPanel) +
         6 * Scratch::bytes<float>(kFeatureBlock * Plan::kWidestPanel);
}

template <class T>
HiddenEpilogue<T>::HiddenEpilogue(const OwnerJob<T>& owner, const SavedProducts& saved, int64_t F,
                                  int64_t f0, int64_t begin, int64_t rows, Scratch& scratch)
    : owner_(owner),
      saved_(saved),
      size_(std::min(owner.hidden.size, F - f0)),
      f0_(f0),
      begin_(begin),
      rows_(rows),
      pairs_(scratch.take<uint16_t>(kFeatureBlock * Plan::kWidestPanel)) {
  for (float** part : {&dh_, &a_, &b_, &da_, &db_, &h_}) {
    *part = scratch.take<float>(kFeatureBlock * Plan::kWidestPanel);
  }
}

template <class T>
void HiddenEpilogue<T>::run(const TokenBlock& panel, const TokenBlock& strip, const float* dh_PR) {
  const VectorKernels& kernels = owner_.kernels;
  store_transposed(kernels, panel.width, rows_, dh_PR, dh_, panel.width, nullptr);
  const float* const a = saved_.a(kernels, panel, f0_ + begin_, rows_, a_);
  const float* const b = saved_.b(kernels, panel, f0_ + begin_, rows_, b_);
  kernels.swiglu_backward(rows_ * panel.width, a, b, dh_, da_, db_, h_);
  if (owner_.needs_inputs() || owner_.needs_output()) store_features(panel, strip);
  if (owner_.dx != nullptr) store_tokens(panel);
}

template <class T>
void HiddenEpilogue<T>::store_features(const TokenBlock& panel, const TokenBlock& strip) {
  T* out = owner_.hidden.feature_rows(strip, begin_) + panel.column - strip.column;
  for (const float* part : {da_, db_, h_}) {
    for (int64_t r = 0; r < rows_; ++r, out += strip.width) {
      store_row(owner_.kernels, panel.width, part + r * panel.width, out);
    }
  }
}

template <class T>
void HiddenEpilogue<T>::store_tokens(const TokenBlock& panel) {
  const HiddenGradients<T>& hidden = owner_.hidden;
  T* const out = hidden.token_rows(panel.column) + begin_;
  store_transposed(owner_.kernels, rows_, panel.width, da_, out, hidden.token_row, pairs_);
  store_transposed(owner_.kernels, rows_, panel.width, db_, out + size_, hidden.token_row, pairs_);
}

template void store_hidden(const VectorKernels&, int64_t, int64_t, const float*, float*, float*);
template void store_hidden(const VectorKernels&, int64_t, int64_t, const float*, uint16_t*, float*);
template class HiddenEpilogue<float>;
template class HiddenEpilogue<uint16_t>;

}  // namespace lorikeet::ops::cpu
