// First half of merged_ffn's backward: down tiles are merged, dh = dy down, and through SwiGLU da,
// db and h.
#include <cstring>

#include "backward.h"
#include "pack.h"
#include "product.h"

namespace lorikeet::ops::cpu {

namespace {

template <class T>
class HiddenTask {
 public:
  HiddenTask(const Backward<T>& job, int64_t f0, int64_t begin, int64_t rows, Scratch scratch)
      : job_(job),
        owner_(job.owner),
        f0_(f0),
        begin_(begin),
        rows_(rows),
        stack_(stack_stride<T>(owner_.D * rows)) {
    tiles_ = scratch.take<T>(largest_stack(owner_.plan) * stack_);
    padded_ = scratch.take<T>(Plan::kPanel * owner_.D);
    pairs_ = scratch.take<uint16_t>(kFeatureBlock * Plan::kPanel);
    for (float** part : {&dh_tokens_, &dh_, &a_, &b_, &da_, &db_, &h_}) {
      *part = scratch.take<float>(kFeatureBlock * Plan::kPanel);
    }
  }

  void run() {
    for (const MergeChunk& chunk : owner_.chunks) {
      merge_right(owner_.kernels, job_.down, {0, owner_.D, f0_ + begin_, rows_}, chunk,
                  {tiles_, stack_});
      for (int64_t s = chunk.begin; s < chunk.end; ++s) {
        const Segment& segment = owner_.plan.segments[s];
        for (int64_t p = segment.panel_begin; p < segment.panel_end; ++p) {
          const int64_t strip = (p - segment.panel_begin) * Plan::kPanel / Plan::kStrip;
          panel(owner_.plan.panels[p], owner_.plan.strips[segment.strip_begin + strip],
                tiles_ + (s - chunk.begin) * stack_);
        }
      }
    }
  }

 private:
  void panel(const TokenBlock& panel, const TokenBlock& strip, const T* merged_down) {
    const int64_t P = panel.width, count = rows_ * P;
    multiply({P, rows_, owner_.D, owner_.D, rows_, rows_, false}, dy_rows(panel), merged_down,
             dh_tokens_);
    store_transposed(owner_.kernels, P, rows_, dh_tokens_, dh_, P, nullptr);
    const int64_t saved = panel.column * job_.F + (f0_ + begin_) * P;
    const float* const a = widened(job_.a, saved, count, a_);
    const float* const b = widened(job_.b, saved, count, b_);
    owner_.kernels.swiglu_backward(count, a, b, dh_, da_, db_, h_);
    if (owner_.needs_inputs() || owner_.needs_output()) store_features(panel, strip);
    if (owner_.dx != nullptr) store_tokens(panel);
  }

  /// dy of the panel, with rows of zeros to its width.
  const T* dy_rows(const TokenBlock& panel) {
    const T* const rows = job_.dy + panel.row * owner_.D;
    if (panel.count == panel.width) return rows;
    std::memcpy(padded_, rows, panel.count * owner_.D * sizeof(T));
    std::memset(padded_ + panel.count * owner_.D, 0,
                (panel.width - panel.count) * owner_.D * sizeof(T));
    return padded_;
  }

  const float* widened(const void* saved, int64_t place, int64_t count, float* wide) const {
    if (!job_.is_saved_bf16) return static_cast<const float*>(saved) + place;
    owner_.kernels.from_bf16(count, static_cast<const uint16_t*>(saved) + place, wide);
    return wide;
  }

  void store_features(const TokenBlock& panel, const TokenBlock& strip) {
    T* out = owner_.hidden.feature_rows(strip, begin_) + panel.column - strip.column;
    for (const float* part : {da_, db_, h_}) {
      for (int64_t r = 0; r < rows_; ++r, out += strip.width) {
        store_row(owner_.kernels, panel.width, part + r * panel.width, out);
      }
    }
  }

  void store_tokens(const TokenBlock& panel) {
    const HiddenGradients<T>& hidden = owner_.hidden;
    // The outer block's own size, which in the last one is smaller than hidden.size.
    const int64_t size = std::min(hidden.size, job_.F - f0_);
    T* const out = hidden.token_rows(panel.column) + begin_;
    store_transposed(owner_.kernels, rows_, panel.width, da_, out, hidden.token_row, pairs_);
    store_transposed(owner_.kernels, rows_, panel.width, db_, out + size, hidden.token_row, pairs_);
  }

  const Backward<T>& job_;
  const OwnerJob<T>& owner_;
  const int64_t f0_, begin_, rows_, stack_;
  T *tiles_, *padded_;
  uint16_t* pairs_;
  float *dh_tokens_, *dh_, *a_, *b_, *da_, *db_, *h_;
};

}  // namespace

template <class T>
int64_t hidden_scratch(const Plan& plan, int64_t D) {
  return Scratch::bytes<T>(largest_stack(plan) * stack_stride<T>(D * kFeatureBlock)) +
         Scratch::bytes<T>(Plan::kPanel * D) +
         8 * Scratch::bytes<float>(kFeatureBlock * Plan::kPanel);
}

template <class T>
void hidden_gradients(const Backward<T>& job, int64_t f0, int64_t begin, int64_t rows,
                      Scratch scratch) {
  HiddenTask<T>(job, f0, begin, rows, scratch).run();
}

template int64_t hidden_scratch<float>(const Plan&, int64_t);
template int64_t hidden_scratch<uint16_t>(const Plan&, int64_t);
template void hidden_gradients(const Backward<float>&, int64_t, int64_t, int64_t, Scratch);
template void hidden_gradients(const Backward<uint16_t>&, int64_t, int64_t, int64_t, Scratch);

}  // namespace lorikeet::ops::cpu
