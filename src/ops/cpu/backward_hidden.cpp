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
      : job_(job), f0_(f0), begin_(begin), rows_(rows), stack_(stack_stride<T>(job.D * rows)) {
    tiles_ = scratch.take<T>(kMaxOutputs * stack_);
    merging_ = scratch.take<float>(merge_scratch(rows));
    padded_ = scratch.take<T>(Plan::kPanel * job.D);
    pairs_ = scratch.take<uint16_t>(kFeatureBlock * Plan::kPanel);
    for (float** part : {&dh_tokens_, &dh_, &a_, &b_, &da_, &db_, &h_}) {
      *part = scratch.take<float>(kFeatureBlock * Plan::kPanel);
    }
  }

  void run() {
    for (const MergeChunk& chunk : job_.chunks) {
      merge_right(job_.kernels, job_.down, {0, job_.D, f0_ + begin_, rows_}, chunk,
                  {tiles_, stack_, rows_}, merging_);
      for (int64_t s = chunk.begin; s < chunk.end; ++s) {
        const Segment& segment = job_.plan.segments[s];
        for (int64_t p = segment.panel_begin; p < segment.panel_end; ++p) {
          const int64_t strip = (p - segment.panel_begin) * Plan::kPanel / Plan::kStrip;
          panel(job_.plan.panels[p], job_.plan.strips[segment.strip_begin + strip],
                tiles_ + (s - chunk.begin) * stack_);
        }
      }
    }
  }

 private:
  void panel(const TokenBlock& panel, const TokenBlock& strip, const T* merged_down) {
    const int64_t P = panel.width, count = rows_ * P;
    multiply({P, rows_, job_.D, job_.D, rows_, rows_, false}, dy_rows(panel), merged_down,
             dh_tokens_);
    store_transposed(job_.kernels, P, rows_, dh_tokens_, dh_, P, nullptr);
    const int64_t saved = panel.column * job_.F + (f0_ + begin_) * P;
    const float* const a = widened(job_.a + saved, count, a_);
    const float* const b = widened(job_.b + saved, count, b_);
    job_.kernels.swiglu_backward(count, a, b, dh_, da_, db_, h_);
    if (job_.needs_gate_up() || job_.needs_down()) store_features(panel, strip);
    if (job_.needed[0]) store_tokens(panel);
  }

  /// dy of the panel, with rows of zeros to its width.
  const T* dy_rows(const TokenBlock& panel) {
    const T* const rows = job_.dy + panel.row * job_.D;
    if (panel.count == panel.width) return rows;
    std::memcpy(padded_, rows, panel.count * job_.D * sizeof(T));
    std::memset(padded_ + panel.count * job_.D, 0,
                (panel.width - panel.count) * job_.D * sizeof(T));
    return padded_;
  }

  const float* widened(const float* saved, int64_t, float*) { return saved; }
  const float* widened(const uint16_t* saved, int64_t count, float* wide) {
    job_.kernels.from_bf16(count, saved, wide);
    return wide;
  }

  void store_features(const TokenBlock& panel, const TokenBlock& strip) {
    T* out = job_.hidden.feature_rows(strip, begin_) + panel.column - strip.column;
    for (const float* part : {da_, db_, h_}) {
      for (int64_t r = 0; r < rows_; ++r, out += strip.width) {
        store_row(job_.kernels, panel.width, part + r * panel.width, out);
      }
    }
  }

  void store_tokens(const TokenBlock& panel) {
    const HiddenGradients<T>& hidden = job_.hidden;
    // The outer block's own size, which in the last one is smaller than hidden.size.
    const int64_t size = std::min(hidden.size, job_.F - f0_);
    T* const out = hidden.token_rows(panel.column) + begin_;
    store_transposed(job_.kernels, rows_, panel.width, da_, out, hidden.token_row, pairs_);
    store_transposed(job_.kernels, rows_, panel.width, db_, out + size, hidden.token_row, pairs_);
  }

  const Backward<T>& job_;
  const int64_t f0_, begin_, rows_, stack_;
  T *tiles_, *padded_;
  uint16_t* pairs_;
  float *merging_, *dh_tokens_, *dh_, *a_, *b_, *da_, *db_, *h_;
};

}  // namespace

template <class T>
int64_t hidden_scratch(int64_t D) {
  return Scratch::bytes<T>(kMaxOutputs * stack_stride<T>(D * kFeatureBlock)) +
         Scratch::bytes<float>(merge_scratch(kFeatureBlock)) + Scratch::bytes<T>(Plan::kPanel * D) +
         8 * Scratch::bytes<float>(kFeatureBlock * Plan::kPanel);
}

template <class T>
void hidden_gradients(const Backward<T>& job, int64_t f0, int64_t begin, int64_t rows,
                      Scratch scratch) {
  HiddenTask<T>(job, f0, begin, rows, scratch).run();
}

template int64_t hidden_scratch<float>(int64_t);
template int64_t hidden_scratch<uint16_t>(int64_t);
template void hidden_gradients(const Backward<float>&, int64_t, int64_t, int64_t, Scratch);
template void hidden_gradients(const Backward<uint16_t>&, int64_t, int64_t, int64_t, Scratch);

}  // namespace lorikeet::ops::cpu
