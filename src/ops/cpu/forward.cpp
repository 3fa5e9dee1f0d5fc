// The loop nest of merged_ffn's forward.
//
// D model, F feed-forward width, E experts, W tokens with padding, P = one panel's width.
//
//   for an outer block of F:
//     owners of rows of F:  merge gate and up tiles for a chunk of segments; for each panel,
//                           a = gate x^T, b = up x^T, h = silu(a) b
//     owners of rows of D:  merge down tiles; y^T += down h (forward_project.cpp)
//
// Everything is transposed (features are rows), because then a merged tile is the left operand just
// as it lies in memory. Each number of a result is summed by one thread in one order.
#include <ATen/ATen.h>

#include <algorithm>

#include "blocks.h"
#include "epilogue.h"
#include "forward_project.h"
#include "level.h"
#include "merge.h"
#include "merged_ffn.h"
#include "plan.h"
#include "product.h"
#include "token_rows.h"
#include "workers.h"
#include "workspace.h"

namespace lorikeet::ops::cpu {

namespace {

using at::Tensor;

constexpr int64_t kFeatureRows = 32;

template <class T>
class Forward {
 public:
  Forward(const Tensor& x, at::IntArrayRef offsets, const Tensor& routing, const Tensor& gate,
          const Tensor& up, const Tensor& down, bool save)
      : kernels_(*level().kernels),
        plan_(offsets),
        chunks_(merge_chunks(plan_, routing, ceil_divide(x.size(1), kProjectRows))),
        gate_(gate),
        up_(up),
        down_(down),
        D_(x.size(1)),
        F_(gate.size(1)),
        outer_(F_, kForwardOuter, kFeatureRows),
        x_(x),
        y(at::empty(x.sizes(), x.options())),
        a(at::empty({save ? F_ * plan_.columns : 0}, x.options())),
        b(at::empty_like(a)),
        saved_(a, b, F_),
        x_columns_(plan_.columns * D_ * sizeof(T)),
        h_columns_(plan_.columns * outer_.size * sizeof(T)),
        y_columns_(plan_.columns * D_ * sizeof(float)),
        workers_(std::max(gate_up_scratch(), project_scratch<T>(plan_, outer_.size))) {}

  void run() {
    record_workspace(/*backward=*/false, x_columns_.bytes() + h_columns_.bytes() +
                                             y_columns_.bytes() + workers_.bytes());
    record_saved(static_cast<int64_t>(a.nbytes() + b.nbytes()));
    const Projection<T> down{.kernels = kernels_,
                             .plan = plan_,
                             .chunks = chunks_,
                             .experts = down_,
                             .O = D_,
                             .I = F_,
                             .sums = y_columns_.as<float>(),
                             .y = y.mutable_data_ptr(),
                             .is_y_bf16 = y.scalar_type() == at::kBFloat16};
    pack_panels(kernels_, plan_, x_, x_columns_.as<T>(), workers_);
    for (int64_t f0 = 0; f0 < F_; f0 += outer_.size) {
      const int64_t size = std::min(outer_.size, F_ - f0);
      run_blocks(workers_, size, kFeatureRows, chunks_,
                 [&](int64_t begin, int64_t rows, const MergeChunk& chunk, Scratch scratch) {
                   gate_up(f0, begin, rows, chunk, scratch);
                 });
      project(down, {h_columns_.as<T>(), outer_.size, /*first=*/0}, f0, size, workers_);
    }
  }

 private:
  T* x_panel(const TokenBlock& panel) const { return x_columns_.as<T>() + panel.column * D_; }
  T* h_panel(const TokenBlock& panel) const {
    return h_columns_.as<T>() + panel.column * outer_.size;
  }

  int64_t gate_up_scratch() const {
    return Scratch::bytes<T>(largest_stack(plan_) * stack_stride<T>(2 * kFeatureRows * D_)) +
           Scratch::bytes<float>(3 * kFeatureRows * Plan::kWidestPanel);
  }

  /// Rows f0 + begin .. + rows of h, for a chunk's tokens.
  void gate_up(int64_t f0, int64_t begin, int64_t rows, const MergeChunk& chunk, Scratch scratch) {
    const int64_t stack = stack_stride<T>(2 * rows * D_);
    T* const tiles = scratch.take<T>(largest_stack(plan_) * stack);
    float* const ab = scratch.take<float>(2 * rows * Plan::kWidestPanel);
    float* const h = scratch.take<float>(rows * Plan::kWidestPanel);
    const Tile tile{f0 + begin, rows, 0, D_};
    // A segment's gate tile and its up tile lie one below the other: one product for both.
    merge_left(kernels_, gate_, tile, chunk, {tiles, stack});
    merge_left(kernels_, up_, tile, chunk, {tiles + rows * D_, stack});
    for (int64_t s = chunk.begin; s < chunk.end; ++s) {
      const T* const merged = tiles + (s - chunk.begin) * stack;
      chunk.for_panels(plan_, plan_.segments[s], [&](const TokenBlock& panel) {
        const int64_t P = panel.width;
        multiply({2 * rows, P, D_, D_, P, P, false}, merged, x_panel(panel), ab);
        store_hidden(kernels_, rows, P, ab, h_panel(panel) + begin * P, h);
        if (saved_.exist()) saved_.put(kernels_, panel, f0 + begin, rows, ab);
      });
    }
  }

  const VectorKernels& kernels_;
  const Plan plan_;
  const std::vector<MergeChunk> chunks_;
  const ExpertMatrix gate_, up_, down_;
  const int64_t D_, F_;
  const OuterBlocks outer_;
  const TokenRows<T> x_;

 public:
  const Tensor y, a, b;

 private:
  const SavedProducts saved_;
  const Buffer x_columns_, h_columns_, y_columns_;
  const Workers workers_;
};

}  // namespace

std::tuple<Tensor, Tensor, Tensor> merged_ffn_forward(const Tensor& x, at::IntArrayRef offsets,
                                                      const Tensor& routing, const Tensor& gate,
                                                      const Tensor& up, const Tensor& down,
                                                      bool save) {
  const auto compute = [&]<class T>(T) {
    Forward<T> forward(x, offsets, routing, gate, up, down, save);
    forward.run();
    return std::tuple{forward.y, forward.a, forward.b};
  };
  return is_computed_in_bf16(x, gate.size(1)) ? compute(uint16_t{}) : compute(float{});
}

}  // namespace lorikeet::ops::cpu
