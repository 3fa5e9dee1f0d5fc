// Second half of merged_ffn's backward. The owner of a block of D merges gate and up tiles for dx,
// then sums the gradients G_s of merged tiles over their segments' tokens, and passes them on:
// dW_e = sum_s r[s,e] G_s, dr[s,e] = <G_s, W_e>.
#include <algorithm>

#include "backward.h"
#include "pack.h"
#include "product.h"

namespace lorikeet::ops::cpu {

namespace {

/// From one segment's to the next's.
constexpr int64_t kStack = stack_stride<float>(2 * kFeatureBlock * kModelBlock);

template <class T>
class WeightTask {
 public:
  WeightTask(const Backward<T>& job, int64_t f0, int64_t size, int64_t d0, int64_t columns,
             Scratch scratch)
      : job_(job), f0_(f0), size_(size), d0_(d0), columns_(columns) {
    gradients_ = scratch.take<float>(kGradientChunk * kStack);
    product_ = scratch.take<float>(kFeatureBlock * columns);
    coefficients_ = scratch.take<float>(kGradientChunk * kMaxOutputs * groups());
    sums_ = scratch.take<float>(kMaxOutputs * kFeatureBlock * kModelBlock);
    depth_ = scratch.take<T>(0);
  }

  void run() {
    const auto total = static_cast<int64_t>(job_.plan.segments.size());
    for (begin_ = 0; begin_ < total; begin_ = end_) {
      end_ = std::min(total, begin_ + kGradientChunk);
      spread_routing();
      if (job_.needs_gate_up()) {
        pack(job_.x);
        for (int64_t f = 0; f < size_; f += kFeatureBlock) gate_up(f);
      }
      if (job_.needs_down()) {
        pack(job_.dy);
        for (int64_t f = 0; f < size_; f += kFeatureBlock) down(f);
      }
    }
  }

 private:
  int64_t groups() const { return ceil_divide(job_.E, kMaxOutputs); }

  /// routing as [groups of experts][segments][kMaxOutputs]
  void spread_routing() {
    std::fill_n(coefficients_, kGradientChunk * kMaxOutputs * groups(), 0.0f);
    for (int64_t s = begin_; s < end_; ++s) {
      const float* const row = job_.routing + job_.plan.segments[s].index * job_.E;
      for (int64_t e = 0; e < job_.E; ++e) {
        coefficients_[(e / kMaxOutputs * kGradientChunk + s - begin_) * kMaxOutputs +
                      e % kMaxOutputs] = row[e];
      }
    }
  }

  int64_t first_column() const {
    return job_.plan.strips[job_.plan.segments[begin_].strip_begin].column;
  }

  /// The chunk's tokens, this task's columns of them.
  void pack(const T* rows) {
    for (int64_t i = job_.plan.segments[begin_].strip_begin;
         i < job_.plan.segments[end_ - 1].strip_end; ++i) {
      const TokenBlock& strip = job_.plan.strips[i];
      pack_depth(job_.kernels, rows + strip.row * job_.D + d0_, job_.D, columns_, strip,
                 packed(strip));
    }
  }
  T* packed(const TokenBlock& strip) const {
    return depth_ + (strip.column - first_column()) * columns_;
  }

  /// rows x columns of features `first` .. of each strip, summed over the segment's tokens.
  void sum_over_tokens(const Segment& segment, int64_t f, int64_t first, int64_t rows, float* out) {
    for (int64_t i = segment.strip_begin; i < segment.strip_end; ++i) {
      const TokenBlock& strip = job_.plan.strips[i];
      const T* const left = job_.hidden.feature_rows(strip, f) + first * strip.width;
      multiply(
          {rows, columns_, strip.width, strip.width, columns_, columns_, i > segment.strip_begin},
          left, packed(strip), out);
    }
  }

  void gate_up(int64_t f) {
    const int64_t rows = std::min(kFeatureBlock, size_ - f), tile = rows * columns_;
    for (int64_t s = begin_; s < end_; ++s) {
      sum_over_tokens(job_.plan.segments[s], f, 0, 2 * rows, gradients_ + (s - begin_) * kStack);
    }
    const Tile place{f0_ + f, rows, d0_, columns_};
    pass_on(job_.gate, place, gradients_, job_.dgate);
    pass_on(job_.up, place, gradients_ + tile, job_.dup);
  }

  void down(int64_t f) {
    const int64_t rows = std::min(kFeatureBlock, size_ - f);
    for (int64_t s = begin_; s < end_; ++s) {
      sum_over_tokens(job_.plan.segments[s], f, 2 * rows, rows, product_);
      store_transposed(job_.kernels, rows, columns_, product_, gradients_ + (s - begin_) * kStack,
                       rows, nullptr);
    }
    pass_on(job_.down, {d0_, columns_, f0_ + f, rows}, gradients_, job_.ddown);
  }

  /// @param merged_grads one tile of a merged matrix a segment
  /// @param grad the experts' gradient, [E, O, I], or null
  void pass_on(const ExpertMatrix& experts, const Tile& place, const float* merged_grads,
               ExpertGradient grad) {
    const int64_t first = place.row * experts.columns + place.column;
    if (job_.needed[1]) routing_gradient(experts, place, first, merged_grads);
    for (int64_t e = 0; grad.data != nullptr && e < job_.E; e += kMaxOutputs) {
      const int64_t outputs = std::min(kMaxOutputs, job_.E - e), to = e * experts.matrix + first;
      const Strides out{experts.matrix, experts.columns};
      if (grad.is_bf16) {
        const Strides close{kFeatureBlock * kModelBlock, place.columns};
        combine(e, outputs, place, merged_grads, sums_, close);
        narrow(outputs, place, close, static_cast<uint16_t*>(grad.data) + to, out);
      } else {
        combine(e, outputs, place, merged_grads, static_cast<float*>(grad.data) + to, out);
      }
    }
  }

  /// sum_s r[s,e] G_s for experts e .. + outputs.
  void combine(int64_t e, int64_t outputs, const Tile& place, const float* merged_grads, float* to,
               Strides out) {
    job_.kernels.combine_f32({.outputs = outputs,
                              .inputs = end_ - begin_,
                              .rows = place.rows,
                              .columns = place.columns,
                              .in = {kStack, place.columns},
                              .out = out,
                              .accumulate = begin_ > 0},
                             coefficients_ + e * kGradientChunk, merged_grads, to);
  }

  void narrow(int64_t outputs, const Tile& place, Strides in, uint16_t* to, Strides out) {
    for (int64_t o = 0; o < outputs; ++o) {
      for (int64_t r = 0; r < place.rows; ++r) {
        job_.kernels.to_bf16(place.columns, sums_ + o * in.matrix + r * in.row,
                             to + o * out.matrix + r * out.row);
      }
    }
  }

  void routing_gradient(const ExpertMatrix& experts, const Tile& place, int64_t first,
                        const float* merged_grads) {
    const auto segments = static_cast<int64_t>(job_.plan.segments.size());
    const VectorKernels::Dots dots{.lefts = end_ - begin_,
                                   .rights = experts.experts,
                                   .rows = place.rows,
                                   .columns = place.columns,
                                   .left = {kStack, place.columns},
                                   .right = {experts.matrix, experts.columns},
                                   .result_row = job_.E};
    float* const result = job_.drouting + (d0_ / kModelBlock * segments + begin_) * job_.E;
    if (experts.is_bf16) {
      job_.kernels.dots_bf16(dots, merged_grads, static_cast<const uint16_t*>(experts.data) + first,
                             result);
    } else {
      job_.kernels.dots_f32(dots, merged_grads, static_cast<const float*>(experts.data) + first,
                            result);
    }
  }

  const Backward<T>& job_;
  const int64_t f0_, size_, d0_, columns_;
  int64_t begin_ = 0, end_ = 0;  // the chunk of segments
  float *gradients_, *product_, *coefficients_, *sums_;
  T* depth_;
};

/// Tokens, with padding, of the largest chunk of segments.
int64_t largest_chunk(const Plan& plan) {
  int64_t largest = 0;
  const auto total = static_cast<int64_t>(plan.segments.size());
  for (int64_t begin = 0; begin < total; begin += kGradientChunk) {
    const Segment& last = plan.segments[std::min(total, begin + kGradientChunk) - 1];
    const TokenBlock& end = plan.strips[last.strip_end - 1];
    largest = std::max(
        largest, end.column + end.width - plan.strips[plan.segments[begin].strip_begin].column);
  }
  return largest;
}

}  // namespace

template <class T>
int64_t owner_scratch(const Plan& plan, int64_t size, int64_t E) {
  const int64_t input = Scratch::bytes<T>(kMaxOutputs * stack_stride<T>(2 * size * kModelBlock)) +
                        Scratch::bytes<float>(merge_scratch(kModelBlock)) +
                        Scratch::bytes<float>(Plan::kPanel * kModelBlock);
  const int64_t weights =
      Scratch::bytes<float>(kGradientChunk * kStack) +
      Scratch::bytes<float>(kFeatureBlock * kModelBlock) +
      Scratch::bytes<float>(kGradientChunk * kMaxOutputs * ceil_divide(E, kMaxOutputs)) +
      Scratch::bytes<float>(kMaxOutputs * kFeatureBlock * kModelBlock) +
      Scratch::bytes<T>(largest_chunk(plan) * kModelBlock);
  return std::max(input, weights);
}

template <class T>
void input_gradient(const Backward<T>& job, int64_t f0, int64_t size, int64_t d0, int64_t columns,
                    Scratch scratch) {
  const int64_t stack = stack_stride<T>(2 * size * columns), token_row = job.hidden.token_row;
  T* const tiles = scratch.take<T>(kMaxOutputs * stack);
  float* const merging = scratch.take<float>(merge_scratch(columns));
  float* const sums = scratch.take<float>(Plan::kPanel * columns);
  const Tile tile{f0, size, d0, columns};
  for (const MergeChunk& chunk : job.chunks) {
    // Gate above up, as da is before db: one product of depth 2 * size.
    merge_right(job.kernels, job.gate, tile, chunk, {tiles, stack, columns}, merging);
    merge_right(job.kernels, job.up, tile, chunk, {tiles + size * columns, stack, columns},
                merging);
    for (int64_t s = chunk.begin; s < chunk.end; ++s) {
      const T* const merged = tiles + (s - chunk.begin) * stack;
      for (int64_t p = job.plan.segments[s].panel_begin; p < job.plan.segments[s].panel_end; ++p) {
        const TokenBlock& panel = job.plan.panels[p];
        const T* const left = job.hidden.token_rows(panel.column);
        float* const out = job.dx + panel.row * job.D + d0;
        const int64_t P = panel.width;
        if (panel.count == P) {
          multiply({P, columns, 2 * size, token_row, columns, job.D, f0 > 0}, left, merged, out);
          continue;
        }
        multiply({P, columns, 2 * size, token_row, columns, columns, false}, left, merged, sums);
        for (int64_t t = 0; t < panel.count; ++t) {
          for (int64_t c = 0; c < columns; ++c) {
            out[t * job.D + c] = sums[t * columns + c] + (f0 > 0 ? out[t * job.D + c] : 0.0f);
          }
        }
      }
    }
  }
}

template <class T>
void weight_gradients(const Backward<T>& job, int64_t f0, int64_t size, int64_t d0, int64_t columns,
                      Scratch scratch) {
  WeightTask<T>(job, f0, size, d0, columns, scratch).run();
}

template int64_t owner_scratch<float>(const Plan&, int64_t, int64_t);
template int64_t owner_scratch<uint16_t>(const Plan&, int64_t, int64_t);
template void input_gradient(const Backward<float>&, int64_t, int64_t, int64_t, int64_t, Scratch);
template void input_gradient(const Backward<uint16_t>&, int64_t, int64_t, int64_t, int64_t,
                             Scratch);
template void weight_gradients(const Backward<float>&, int64_t, int64_t, int64_t, int64_t, Scratch);
template void weight_gradients(const Backward<uint16_t>&, int64_t, int64_t, int64_t, int64_t,
                               Scratch);

}  // namespace lorikeet::ops::cpu
