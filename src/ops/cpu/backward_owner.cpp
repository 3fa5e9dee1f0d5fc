// The owner of a block of D sums the gradients G_s of merged tiles over their segments' tokens, and
// passes them on: dW_e = sum_s r[s,e] G_s, dr[s,e] = <G_s, W_e>. Its part of dx is in
// backward_inputs.cpp.
#include "backward_owner.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>
#include <type_traits>

#include "level.h"
#include "pack.h"
#include "product.h"

namespace lorikeet::ops::cpu {

using at::Tensor;

namespace {

/// From one segment's gradient tiles, `inputs` of them, to the next's.
template <class T>
int64_t gradient_stack(int64_t inputs) {
  return stack_stride<float>(inputs * kFeatureBlock * kModelBlock<T>);
}

/// Of one chunk of segments, for the routing's gradient and for its weights.
int64_t drouting_numbers(int64_t E) { return E * kMergedSegments * kDotLanes; }
int64_t coefficient_numbers(int64_t E) { return kGradientChunk * round_up(E, kMaxOutputs); }

/// Whether gradients of that dtype are sums of several roundings, if they are not summed in fp32.
bool is_summed_in_fp32(const Plan& plan, bool is_bf16) {
  return is_bf16 && static_cast<int64_t>(plan.segments.size()) > kGradientChunk;
}

/// Block of features by block of features, all segments, chunk by chunk: so a tile of the experts
/// and of their gradients is in cache for all chunks but the first.
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
    const int64_t chunks = num_chunks(job.plan);
    gradients_ = scratch.take<float>(kGradientChunk * stack_);
    product_ = scratch.take<float>(kFeatureBlock * columns);
    coefficients_ = scratch.take<float>(chunks * coefficient_numbers(job.E));
    drouting_ = scratch.take<float>(chunks * drouting_numbers(job.E));
    depth_ = scratch.take<T>(largest_chunk(job.plan) * columns);
    sums_ = scratch.take<float>(0);
  }

  static int64_t scratch_bytes(const Plan& plan, int64_t inputs, int64_t E, bool is_bf16) {
    const int64_t tile = kFeatureBlock * kModelBlock<T>, chunks = num_chunks(plan);
    return Scratch::bytes<float>(kGradientChunk * gradient_stack<T>(inputs)) +
           Scratch::bytes<float>(tile) + Scratch::bytes<float>(chunks * coefficient_numbers(E)) +
           Scratch::bytes<float>(chunks * drouting_numbers(E)) +
           Scratch::bytes<T>(largest_chunk(plan) * kModelBlock<T>) +
           (is_summed_in_fp32(plan, is_bf16) ? Scratch::bytes<float>(inputs * E * tile) : 0);
  }

  void run() {
    std::fill_n(drouting_, num_chunks(job_.plan) * drouting_numbers(job_.E), 0.0f);
    for_chunks([&] { spread_routing(); });
    if (job_.needs_inputs()) {
      for_blocks(job_.x, [&](int64_t f) { input(f); });
    }
    if (job_.needs_output()) {
      for_blocks(job_.dy, [&](int64_t f) { output(f); });
    }
    if (job_.needs_routing) {
      for_chunks([&] { store_drouting(); });
    }
  }

 private:
  static int64_t num_chunks(const Plan& plan) {
    return ceil_divide(static_cast<int64_t>(plan.segments.size()), kGradientChunk);
  }
  /// Tokens, with padding, of the largest chunk of segments.
  static int64_t largest_chunk(const Plan& plan) {
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

  template <class Use>
  void for_chunks(const Use& use) {
    const auto total = static_cast<int64_t>(job_.plan.segments.size());
    for (begin_ = 0; begin_ < total; begin_ = end_) {
      end_ = std::min(total, begin_ + kGradientChunk);
      use();
    }
  }
  /// use(f) for each block of features and chunk of segments, whose `rows` are packed.
  template <class Use>
  void for_blocks(const TokenRows<T>& rows, const Use& use) {
    int64_t packed = -1;
    for (int64_t f = 0; f < size_; f += kFeatureBlock) {
      for_chunks([&] {
        if (packed != begin_) pack(rows);
        packed = begin_;
        use(f);
      });
    }
  }

  float* coefficients() const {
    return coefficients_ + begin_ / kGradientChunk * coefficient_numbers(job_.E);
  }
  float* drouting() const { return drouting_ + begin_ / kGradientChunk * drouting_numbers(job_.E); }

  /// routing as [groups of experts][segments][kMaxOutputs]
  void spread_routing() {
    float* const to = coefficients();
    std::fill_n(to, coefficient_numbers(job_.E), 0.0f);
    for (int64_t s = begin_; s < end_; ++s) {
      const float* const row = job_.routing + job_.plan.segments[s].index * job_.E;
      for (int64_t e = 0; e < job_.E; ++e) {
        to[(e / kMaxOutputs * kGradientChunk + s - begin_) * kMaxOutputs + e % kMaxOutputs] =
            row[e];
      }
    }
  }

  int64_t first_column() const {
    return job_.plan.strips[job_.plan.segments[begin_].strip_begin].column;
  }

  /// The chunk's tokens, this task's columns of them.
  void pack(const TokenRows<T>& rows) {
    for (int64_t i = job_.plan.segments[begin_].strip_begin;
         i < job_.plan.segments[end_ - 1].strip_end; ++i) {
      const TokenBlock& strip = job_.plan.strips[i];
      rows.read(strip.row, d0_, [&](const auto* from) {
        for (int64_t c = 0; c < columns_; c += pane_) {
          pack_depth(job_.kernels, from + c, job_.D, std::min(pane_, columns_ - c), strip,
                     packed(strip) + c * strip.width);
        }
      });
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
      multiply_panes(
          {rows, columns_, strip.width, strip.width, pane_, columns_, i > segment.strip_begin},
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
              gradients_ + i * tile, sums_ + i * job_.E * tile);
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
            gradients_, sums_);
  }

  /// @param next the tile that comes after `place` @param merged_grads one of a merged matrix a
  /// segment @param sums the place's tiles of all experts, for sums that are rounded
  void pass_on(const ExpertWeight& weight, const Tile& place, const Tile& next,
               const float* merged_grads, float* sums) {
    const ExpertGradient grad = weight.gradient;
    if (job_.needs_routing) routing_gradient(weight.experts, place, next, merged_grads);
    if (grad.data == nullptr) return;
    const int64_t first = place.row * weight.experts.columns + place.column;
    if (!grad.is_bf16) {
      expert_gradient(place, merged_grads, weight.experts.strides(),
                      static_cast<float*>(grad.data) + first);
      return;
    }
    uint16_t* const out = static_cast<uint16_t*>(grad.data) + first;
    if (!is_summed_in_fp32(job_.plan, grad.is_bf16)) {
      expert_gradient(place, merged_grads, weight.experts.strides(), out);
      return;
    }
    expert_gradient(place, merged_grads, {place.numbers(), place.columns}, sums);
    if (end_ == static_cast<int64_t>(job_.plan.segments.size())) round(weight, place, sums, out);
  }

  /// A tile of every expert's gradient: what this chunk of segments adds to it.
  template <class Out>
  void expert_gradient(const Tile& place, const float* merged_grads, Strides strides, Out* out) {
    for (int64_t e = 0; e < job_.E; e += kMaxOutputs) {
      const VectorKernels::Combine shape{.outputs = std::min(kMaxOutputs, job_.E - e),
                                         .inputs = end_ - begin_,
                                         .rows = place.rows,
                                         .columns = place.columns,
                                         .in = {stack_, place.columns},
                                         .out = strides,
                                         .accumulate = begin_ > 0};
      const float* const factors = coefficients() + e * kGradientChunk;
      Out* const to = out + e * strides.matrix;
      if constexpr (std::is_same_v<Out, float>) {
        job_.kernels.combine(shape, factors, merged_grads, to);
      } else {
        job_.kernels.combine_to_bf16(shape, factors, merged_grads, to);
      }
    }
  }

  void round(const ExpertWeight& weight, const Tile& place, const float* sums, uint16_t* out) {
    const Strides strides = weight.experts.strides();
    for (int64_t e = 0; e < job_.E; ++e) {
      for (int64_t r = 0; r < place.rows; ++r, sums += place.columns) {
        job_.kernels.to_bf16(place.columns, sums, out + e * strides.matrix + r * strides.row);
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
        job_.kernels.dot_f32(shape, in, in + ahead, merged_grads, drouting());
      } else {
        job_.kernels.dot_bf16(shape, in, in + ahead, merged_grads, drouting());
      }
    });
  }

  void store_drouting() {
    const auto total = static_cast<int64_t>(job_.plan.segments.size()), segments = end_ - begin_;
    for (int64_t s = 0; s < segments; ++s) {
      float* const row = job_.drouting + (d0_ / kModelBlock<T> * total + begin_ + s) * job_.E;
      for (int64_t e = 0; e < job_.E; ++e) {
        const float* const lanes = drouting() + (e * kMergedSegments + s) * kDotLanes;
        row[e] = std::accumulate(lanes, lanes + kDotLanes, 0.0f);
      }
    }
  }

  const OwnerJob<T>& job_;
  const int64_t inputs_, stack_, f0_, size_, d0_, columns_, pane_ = level().pane;
  int64_t begin_ = 0, end_ = 0;  // the chunk of segments
  float *gradients_, *product_, *coefficients_, *drouting_, *sums_;
  T* depth_;
};

}  // namespace

template <class T>
int64_t owner_scratch(const Plan& plan, int64_t size, int64_t inputs, const Tensor& weight) {
  return std::max(input_scratch<T>(plan, inputs * size),
                  WeightTask<T>::scratch_bytes(plan, inputs, weight.size(0),
                                               weight.scalar_type() == at::kBFloat16));
}

template <class T>
void own_columns(const OwnerJob<T>& job, int64_t f0, int64_t size, const Workers& workers) {
  const auto chunks = static_cast<int64_t>(job.chunks.size());
  // For each block of columns the experts' gradients, the longest task, then dx chunk by chunk.
  workers.run(
      ceil_divide(job.D, kModelBlock<T>) * (1 + chunks),
      [&](int64_t i, Scratch scratch) {
        const int64_t d0 = i / (1 + chunks) * kModelBlock<T>, part = i % (1 + chunks);
        const int64_t columns = std::min(kModelBlock<T>, job.D - d0);
        if (part == 0) {
          WeightTask<T>(job, f0, size, d0, columns, scratch).run();
        } else if (job.dx != nullptr) {
          input_gradient(job, f0, size, d0, columns, job.chunks[part - 1], scratch);
        }
      },
      release_products);
}

template int64_t owner_scratch<float>(const Plan&, int64_t, int64_t, const Tensor&);
template int64_t owner_scratch<uint16_t>(const Plan&, int64_t, int64_t, const Tensor&);
template void own_columns(const OwnerJob<float>&, int64_t, int64_t, const Workers&);
template void own_columns(const OwnerJob<uint16_t>&, int64_t, int64_t, const Workers&);

}  // namespace lorikeet::ops::cpu
