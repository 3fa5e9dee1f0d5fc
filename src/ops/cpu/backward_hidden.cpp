// First half of merged_ffn's backward: down tiles are merged, dh = dy down; da, db and h follow in
// the epilogue.
#include <cstring>

#include "backward.h"
#include "level.h"
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
        stack_(stack_stride<T>(owner_.D * rows)),
        tiles_(scratch.take<T>(largest_stack(owner_.plan) * stack_)),
        padded_(scratch.take<T>(Plan::kWidestPanel * owner_.D)),
        dh_tokens_(scratch.take<float>(kFeatureBlock * Plan::kWidestPanel)),
        epilogue_(job.owner, job.saved, job.F, f0, begin, rows, scratch) {}

  void run(const MergeChunk& chunk) {
    merge_right(owner_.kernels, job_.down, {0, owner_.D, f0_ + begin_, rows_}, chunk,
                TileStack<T>{tiles_, stack_}, /*row=*/0, /*depth=*/owner_.D);
    for (int64_t s = chunk.begin; s < chunk.end; ++s) {
      const Segment& segment = owner_.plan.segments[s];
      const int64_t first = owner_.plan.panels[segment.panel_begin].column;
      chunk.for_panels(owner_.plan, segment, [&](const TokenBlock& tokens) {
        const int64_t strip = segment.strip_begin + (tokens.column - first) / Plan::kStrip;
        panel(tokens, owner_.plan.strips[strip], tiles_ + (s - chunk.begin) * stack_);
      });
    }
  }

 private:
  void panel(const TokenBlock& panel, const TokenBlock& strip, const T* merged_down) {
    multiply_panes({panel.width, rows_, owner_.D, owner_.D, level().pane, rows_, false},
                   dy_rows(panel), merged_down, dh_tokens_);
    epilogue_.run(panel, strip, dh_tokens_);
  }

  /// dy of the panel, with rows of zeros to its width.
  const T* dy_rows(const TokenBlock& panel) {
    const T* const rows = owner_.dy.in_place(panel.row);
    if (rows != nullptr && panel.count == panel.width) return rows;
    owner_.dy.copy(owner_.kernels, panel.row, 0, panel.count * owner_.D, padded_);
    std::memset(padded_ + panel.count * owner_.D, 0,
                (panel.width - panel.count) * owner_.D * sizeof(T));
    return padded_;
  }

  const Backward<T>& job_;
  const OwnerJob<T>& owner_;
  const int64_t f0_, begin_, rows_, stack_;
  T *const tiles_, *const padded_;
  float* const dh_tokens_;
  HiddenEpilogue<T> epilogue_;
};

}  // namespace

template <class T>
int64_t hidden_scratch(const Plan& plan, int64_t D) {
  return Scratch::bytes<T>(largest_stack(plan) * stack_stride<T>(D * kFeatureBlock)) +
         Scratch::bytes<T>(Plan::kWidestPanel * D) +
         Scratch::bytes<float>(kFeatureBlock * Plan::kWidestPanel) +
         HiddenEpilogue<T>::scratch_bytes();
}

template <class T>
void hidden_gradients(const Backward<T>& job, int64_t f0, int64_t begin, int64_t rows,
                      const MergeChunk& chunk, Scratch scratch) {
  HiddenTask<T>(job, f0, begin, rows, scratch).run(chunk);
}

template int64_t hidden_scratch<float>(const Plan&, int64_t);
template int64_t hidden_scratch<uint16_t>(const Plan&, int64_t);
template void hidden_gradients(const Backward<float>&, int64_t, int64_t, int64_t, const MergeChunk&,
                               Scratch);
template void hidden_gradients(const Backward<uint16_t>&, int64_t, int64_t, int64_t,
                               const MergeChunk&, Scratch);

}  // namespace lorikeet::ops::cpu
