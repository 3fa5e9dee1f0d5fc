// The owner of a block of D merges tiles for dx, then sums the gradients G_s of merged tiles over
// their segments' tokens, and passes them on: dW_e = sum_s r[s,e] G_s, dr[s,e] = <G_s, W_e>.
#include "backward_owner.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>
#include <type_traits>

#include "lorikeet/ops/gradient_sink.h"
#include "pack.h"
#include "pages.h"
#include "product.h"

namespace lorikeet::ops::cpu {

using at::Tensor;

namespace {

/// From one segment's gradient tiles, `inputs` of them, to the next's.
template <class T>
int64_t gradient_stack(int64_t inputs) {
  return stack_stride<float>(inputs * kFeatureBlock * kModelBlock<T>);
}

int64_t drouting_numbers(int64_t E) { return E * kMergedSegments * kDotLanes; }
static_assert(kGradientChunk <= kMergedSegments);

template <class T>
class WeightTask {
 public:
  WeightTask(const OwnerJob<T>& job, int64_t f0, int64_t size, int64_t d0, int64_t columns,
             Scratch scratch)
      : job_(job),
        inputs_(static_cast<int64_t>(job.inputs.size())),
        stack_(gradient_stack<T>(inputs_)),
        f0_(f0),
        size_(size),
        d0_(d0),
        columns_(columns) {
    gradients_ = scratch.take<float>(kGradientChunk * stack_);
    product_ = scratch.take<float>(kFeatureBlock * columns);
    coefficients_ = scratch.take<float>(kGradientChunk * kMaxOutputs * groups());
    drouting_ = scratch.take<float>(drouting_numbers(job.E));
    depth_ = scratch.take<T>(0);
  }

  void run() {
    const auto total = static_cast<int64_t>(job_.plan.segments.size());
    for (begin_ = 0; begin_ < total; begin_ = end_) {
      end_ = std::min(total, begin_ + kGradientChunk);
      spread_routing();
      std::fill_n(drouting_, drouting_numbers(job_.E), 0.0f);
      if (job_.needs_inputs()) {
        pack(job_.x);
        for (int64_t f = 0; f < size_; f += kFeatureBlock) input(f);
      }
      if (job_.needs_output()) {
        pack(job_.dy);
        for (int64_t f = 0; f < size_; f += kFeatureBlock) output(f);
      }
      if (job_.needs_routing) store_drouting();
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

  void input(int64_t f) {
    const int64_t rows = std::min(kFeatureBlock, size_ - f), tile = rows * columns_;
    for (int64_t s = begin_; s < end_; ++s) {
      sum_over_tokens(job_.plan.segments[s], f, 0, inputs_ * rows,
                      gradients_ + (s - begin_) * stack_);
    }
    for (int64_t i = 0; i < inputs_; ++i) {
      pass_on(job_.inputs[i], {f0_ + f, rows, d0_, columns_}, {f0_ + f + rows, rows, d0_, columns_},
              gradients_ + i * tile);
    }
  }

  void output(int64_t f) {
    const int64_t rows = std::min(kFeatureBlock, size_ - f);
    for (int64_t s = begin_; s < end_; ++s) {
      sum_over_tokens(job_.plan.segments[s], f, inputs_ * rows, rows, product_);
      store_transposed(job_.kernels, rows, columns_, product_, gradients_ + (s - begin_) * stack_,
                       rows, nullptr);
    }
    pass_on(*job_.output, {d0_, columns_, f0_ + f, rows}, {d0_, columns_, f0_ + f + rows, rows},
            gradients_);
  }

  /// @param next the tile that comes after `place` @param merged_grads one of a merged matrix a
  /// segment
  void pass_on(const ExpertWeight& weight, const Tile& place, const Tile& next,
               const float* merged_grads) {
    const ExpertGradient grad = weight.gradient;
    if (job_.needs_routing) routing_gradient(weight.experts, place, next, merged_grads);
    if (grad.data == nullptr) return;
    const int64_t first = place.row * weight.experts.columns + place.column;
    for (int64_t e = 0; e < job_.E; e += kMaxOutputs) {
      const int64_t to = e * weight.experts.matrix + first;
      const VectorKernels::Combine shape{.outputs = std::min(kMaxOutputs, job_.E - e),
                                         .inputs = end_ - begin_,
                                         .rows = place.rows,
                                         .columns = place.columns,
                                         .in = {stack_, place.columns},
                                         .out = weight.experts.strides(),
                                         .accumulate = begin_ > 0};
      const float* const factors = coefficients_ + e * kGradientChunk;
      if (grad.is_bf16) {
        job_.kernels.combine_to_bf16(shape, factors, merged_grads,
                                     static_cast<uint16_t*>(grad.data) + to);
      } else {
        job_.kernels.combine(shape, factors, merged_grads, static_cast<float*>(grad.data) + to);
      }
    }
  }

  /// drouting_ [E, segments] += <W_e, G_s>
  void routing_gradient(const ExpertMatrix& experts, const Tile& place, const Tile& next,
                        const float* merged_grads) {
    const VectorKernels::Dot shape{.inputs = job_.E,
                                   .outputs = end_ - begin_,
                                   .rows = place.rows,
                                   .columns = place.columns,
                                   .in = experts.strides(),
                                   .others = {stack_, place.columns}};
    const int64_t ahead = (next.row - place.row) * experts.columns + next.column - place.column;
    with_tile(experts, place, [&]<class In>(const In* in) {
      if constexpr (std::is_same_v<In, float>) {
        job_.kernels.dot_f32(shape, in, in + ahead, merged_grads, drouting_);
      } else {
        job_.kernels.dot_bf16(shape, in, in + ahead, merged_grads, drouting_);
      }
    });
  }

  void store_drouting() {
    const auto total = static_cast<int64_t>(job_.plan.segments.size()), segments = end_ - begin_;
    for (int64_t s = 0; s < segments; ++s) {
      float* const row = job_.drouting + (d0_ / kModelBlock<T> * total + begin_ + s) * job_.E;
      for (int64_t e = 0; e < job_.E; ++e) {
        const float* const lanes = drouting_ + (e * kMergedSegments + s) * kDotLanes;
        row[e] = std::accumulate(lanes, lanes + kDotLanes, 0.0f);
      }
    }
  }

  const OwnerJob<T>& job_;
  const int64_t inputs_, stack_, f0_, size_, d0_, columns_;
  int64_t begin_ = 0, end_ = 0;  // the chunk of segments
  float *gradients_, *product_, *coefficients_, *drouting_;
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

/// One task's columns of dx, without the experts' gradients.
template <class T>
void input_gradient(const OwnerJob<T>& job, int64_t f0, int64_t size, int64_t d0, int64_t columns,
                    Scratch scratch) {
  const auto inputs = static_cast<int64_t>(job.inputs.size());
  const int64_t depth = inputs * size, stack = stack_stride<T>(depth * columns),
                token_row = job.hidden.token_row;
  T* const tiles = scratch.take<T>(largest_stack(job.plan) * stack);
  float* const sums = scratch.take<float>(Plan::kPanel * columns);
  for (const MergeChunk& chunk : job.chunks) {
    // One above the other, as a token's parts follow each other: one product for all.
    for (int64_t i = 0; i < inputs; ++i) {
      merge_right(job.kernels, job.inputs[i].experts, {f0, size, d0, columns}, chunk,
                  {tiles + i * size * columns, stack});
    }
    for (int64_t s = chunk.begin; s < chunk.end; ++s) {
      const T* const merged = tiles + (s - chunk.begin) * stack;
      for (int64_t p = job.plan.segments[s].panel_begin; p < job.plan.segments[s].panel_end; ++p) {
        const TokenBlock& panel = job.plan.panels[p];
        const T* const left = job.hidden.token_rows(panel.column);
        float* const out = job.dx + panel.row * job.D + d0;
        const int64_t P = panel.width;
        if (panel.count == P) {
          multiply({P, columns, depth, token_row, columns, job.D, f0 > 0}, left, merged, out);
          continue;
        }
        multiply({P, columns, depth, token_row, columns, columns, false}, left, merged, sums);
        for (int64_t t = 0; t < panel.count; ++t) {
          for (int64_t c = 0; c < columns; ++c) {
            out[t * job.D + c] = sums[t * columns + c] + (f0 > 0 ? out[t * job.D + c] : 0.0f);
          }
        }
      }
    }
  }
}

}  // namespace

template <class T>
int64_t owner_scratch(const Plan& plan, int64_t size, int64_t inputs, int64_t E) {
  const int64_t merging =
      Scratch::bytes<T>(largest_stack(plan) * stack_stride<T>(inputs * size * kModelBlock<T>)) +
      Scratch::bytes<float>(Plan::kPanel * kModelBlock<T>);
  const int64_t weights =
      Scratch::bytes<float>(kGradientChunk * gradient_stack<T>(inputs)) +
      Scratch::bytes<float>(kFeatureBlock * kModelBlock<T>) +
      Scratch::bytes<float>(kGradientChunk * kMaxOutputs * ceil_divide(E, kMaxOutputs)) +
      Scratch::bytes<float>(drouting_numbers(E)) +
      Scratch::bytes<T>(largest_chunk(plan) * kModelBlock<T>);
  return std::max(merging, weights);
}

template <class T>
void own_columns(const OwnerJob<T>& job, int64_t f0, int64_t size, const Workers& workers) {
  workers.run(
      ceil_divide(job.D, kModelBlock<T>),
      [&](int64_t i, Scratch scratch) {
        const int64_t d0 = i * kModelBlock<T>, columns = std::min(kModelBlock<T>, job.D - d0);
        if (job.dx != nullptr) input_gradient(job, f0, size, d0, columns, scratch);
        WeightTask<T>(job, f0, size, d0, columns, scratch).run();
      },
      release_products);
}

Tensor fresh_gradient(const Tensor& like, bool is_needed, at::ScalarType dtype) {
  if (!is_needed) return Tensor();
  Tensor result = at::empty(like.sizes(), like.options().dtype(dtype));
  prefer_large_pages(result.mutable_data_ptr(), static_cast<int64_t>(result.nbytes()));
  return result;
}

WeightGradient::WeightGradient(const Plan& plan, const Tensor& weight, bool is_needed)
    : weight_(weight) {
  if (!is_needed) return;
  GradientSink* const sink = weight.scalar_type() == at::kFloat ? gradient_sink() : nullptr;
  if (sink != nullptr) place_.data = sink->place_of(weight);
  if (place_.data != nullptr) return;
  const auto segments = static_cast<int64_t>(plan.segments.size());
  fresh_ =
      fresh_gradient(weight, true, segments <= kGradientChunk ? weight.scalar_type() : at::kFloat);
  place_ = {fresh_.mutable_data_ptr(), fresh_.scalar_type() == at::kBFloat16};
}

Tensor WeightGradient::finish() const {
  if (fresh_.defined()) return fresh_.to(weight_.scalar_type());
  if (place_.data != nullptr) gradient_sink()->written(weight_);
  return Tensor();
}

DroutingParts::DroutingParts(bool is_needed, int64_t outer_blocks, int64_t owners, const Plan& plan,
                             int64_t E)
    : row_(static_cast<int64_t>(plan.segments.size()) * E),
      block_(owners * row_),
      parts_(is_needed ? outer_blocks * block_ : 0) {}

Tensor DroutingParts::total(const Plan& plan, const Tensor& routing) const {
  Tensor total = at::zeros(routing.sizes(), routing.options());
  const int64_t E = routing.size(1);
  for (int64_t k = 0; k < row_; ++k) {
    double sum = 0;
    for (size_t i = k; i < parts_.size(); i += row_) sum += parts_[i];
    const int64_t g = plan.segments[k / E].index;
    total.mutable_data_ptr<float>()[g * E + k % E] = static_cast<float>(sum);
  }
  return total;
}

template int64_t owner_scratch<float>(const Plan&, int64_t, int64_t, int64_t);
template int64_t owner_scratch<uint16_t>(const Plan&, int64_t, int64_t, int64_t);
template void own_columns(const OwnerJob<float>&, int64_t, int64_t, const Workers&);
template void own_columns(const OwnerJob<uint16_t>&, int64_t, int64_t, const Workers&);

}  // namespace lorikeet::ops::cpu
