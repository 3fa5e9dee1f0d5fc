// N tokens, D model, F feed-forward width, E experts, G segments, C segments of a slab.
#include "batched.h"

#include <ATen/ATen.h>
#include <ATen/OpMathType.h>

#include <algorithm>

#include "src/ops/cpu/workspace.h"

namespace lorikeet::ops::cuda {

namespace {

using at::Tensor;

constexpr int64_t kWide = 4;  // bytes of fp32
/// Numbers of a pass in fp32 that is no product: its temporaries are as large, not as a slab's
/// rows.
constexpr int64_t kPassNumbers = 1 << 21;

/// Columns [first, first + count) of the rows of a matrix.
Tensor columns(const Tensor& matrix, int64_t first, int64_t count) {
  return matrix.narrow(1, first, count);
}

/// What both passes need: the segments, the slab, and fp32 memory beside it for what is rounded
/// into it.
class Slabs {
 public:
  Slabs(const FfnShape& shape, const Tensor& x, const Tensor& routing, int64_t elements)
      : shape_(shape),
        compute_(at::toOpMathType(x.scalar_type())),
        routing_GE_(routing.to(compute_)),
        memory_(at::empty({elements}, x.options())),
        wide_(is_rounded() ? at::empty({elements}, x.options().dtype(compute_)) : Tensor()) {}

  Tensor slab(at::IntArrayRef sizes) const {
    return memory_.narrow(0, 0, c10::multiply_integers(sizes)).view(sizes);
  }

  /// into[s] = sum_e routing[first + s, e] experts[e]. @param experts [E, rows, columns], any
  /// strides @param into [C, rows, columns], of which rows follow each other
  void merge(const Tensor& experts, int64_t first, const Tensor& into) const {
    const int64_t C = into.size(0), size = experts.size(1) * experts.size(2);
    const Tensor flat_EK = experts.to(compute_).reshape({experts.size(0), size});
    Tensor out = is_rounded() ? wide({C, size}) : into.view({C, size});
    at::mm_out(out, routing_GE_.narrow(0, first, C), flat_EK);
    if (is_rounded()) into.copy_(out.view(into.sizes()));
  }

  /// out = left slab[s] for the rows of each segment s. @param left [N, K] @param slab_CKM from
  /// segment `first` on @param out [N, M]
  void multiply(const Tensor& left, const Tensor& slab_CKM, int64_t first,
                const Tensor& out) const {
    for_runs(first, slab_CKM.size(0), [&](const Run& run) {
      Tensor result = run.rows_of(out);
      at::bmm_out(result, run.rows_of(left), slab_CKM.narrow(0, run.first - first, run.count));
    });
  }

  /// slab[s] = left_s^T right_s for all segments. @param left [N, rows] @param right [N, columns]
  void segment_gradients(const Tensor& left, const Tensor& right, const Tensor& slab) const {
    for_runs(
        0, shape_.G(),
        [&](const Run& run) {
          Tensor result = slab.narrow(0, run.first, run.count);
          if (run.length == 0) {
            result.zero_();
            return;
          }
          at::bmm_out(result, run.rows_of(left).transpose(1, 2), run.rows_of(right));
        },
        /*empty_too=*/true);
  }

  /// Calls of(first segment, segments, first column, columns) for each slab that has tokens.
  template <class Function>
  void for_each(const SlabPlan& plan, int64_t all_columns, const Function& of) const {
    for (int64_t first = 0; first < shape_.G(); first += plan.segments) {
      const int64_t segments = std::min(plan.segments, shape_.G() - first);
      if (row(first) == row(first + segments)) continue;
      for (int64_t column = 0; column < all_columns; column += plan.columns) {
        of(first, segments, column, std::min(plan.columns, all_columns - column));
      }
    }
  }

  /// The rows of segments first .. first + count.
  Tensor rows_of(const Tensor& matrix, int64_t first, int64_t count) const {
    return matrix.narrow(0, row(first), row(first + count) - row(first));
  }

  /// A slab [G, K] as it is multiplied further: in fp32 where merged weights were, which is free.
  Tensor widened(const Tensor& slab_GK) const {
    return is_rounded() ? wide(slab_GK.sizes()).copy_(slab_GK) : slab_GK;
  }

  const Tensor& routing() const { return routing_GE_; }
  at::ScalarType compute() const { return compute_; }

 private:
  /// Segments of one length after each other: a batch.
  struct Run {
    int64_t first, count, row, length;
    Tensor rows_of(const Tensor& matrix) const {
      return matrix.narrow(0, row, count * length).view({count, length, matrix.size(1)});
    }
  };

  template <class Function>
  void for_runs(int64_t first, int64_t count, const Function& of, bool empty_too = false) const {
    const auto length = [&](int64_t g) { return row(g + 1) - row(g); };
    for (int64_t g = first; g < first + count;) {
      int64_t end = g + 1;
      while (end < first + count && length(end) == length(g)) ++end;
      if (empty_too || length(g) > 0) of(Run{g, end - g, row(g), length(g)});
      g = end;
    }
  }

  Tensor wide(at::IntArrayRef sizes) const {
    return wide_.narrow(0, 0, c10::multiply_integers(sizes)).view(sizes);
  }
  int64_t row(int64_t g) const { return shape_.offsets[static_cast<size_t>(g)]; }
  bool is_rounded() const { return memory_.scalar_type() != compute_; }

  const FfnShape& shape_;
  at::ScalarType compute_;
  Tensor routing_GE_, memory_, wide_;
};

FfnShape shape_of(const Tensor& x, at::IntArrayRef offsets, const Tensor& gate) {
  return batched_shape(offsets.vec(), x.size(1), gate.size(1), gate.size(0),
                       static_cast<int64_t>(x.element_size()),
                       static_cast<int64_t>(gate.element_size()));
}

/// Calls of(widened) for some rows after others, few enough for temporaries in fp32. What
/// `widened` is given, it gives at those rows and in `compute`.
template <class Function>
void by_rows(const Tensor& like, at::ScalarType compute, const Function& of) {
  const int64_t rows = like.size(0), step = std::max<int64_t>(1, kPassNumbers / like.size(1));
  for (int64_t row = 0; row < rows; row += step) {
    const auto at_rows = [&, count = std::min(step, rows - row)](const Tensor& matrix) {
      return matrix.narrow(0, row, count);
    };
    of(at_rows, [&](const Tensor& matrix) { return at_rows(matrix).to(compute); });
  }
}

/// h = silu(a) b.
void swiglu(const Tensor& a, const Tensor& b, at::ScalarType compute, const Tensor& h) {
  by_rows(h, compute, [&](const auto& at_rows, const auto& wide) {
    const Tensor gated = at::silu(wide(a));
    at_rows(h).copy_(gated.mul_(wide(b)));
  });
}

/// da and db from dh, a and b. dh may be overwritten.
void swiglu_gradient(const Tensor& dh, const Tensor& a, const Tensor& b, at::ScalarType compute,
                     const Tensor& da, const Tensor& db) {
  by_rows(dh, compute, [&](const auto& at_rows, const auto& wide) {
    const Tensor wide_dh = wide(dh), wide_a = wide(a);
    at_rows(db).copy_(at::silu(wide_a).mul_(wide_dh));
    wide_dh.mul_(wide(b));
    at_rows(da).copy_(at::silu_backward(wide_dh, wide_a));
  });
}

/// One set of experts [E, rows, columns], whose segment gradients are left^T right.
struct ExpertGradient {
  const Tensor &left, &right, &experts;
  Tensor gradient;  ///< undefined where not needed
};

/// Rectangle by rectangle, each reduced to expert and routing gradients.
void reduce(const Slabs& slabs, const GradientPlan& plan, const ExpertGradient& of,
            const Tensor& drouting) {
  if (!of.gradient.defined() && !drouting.defined()) return;
  const int64_t E = of.experts.size(0), G = slabs.routing().size(0);
  for (int64_t row = 0; row < of.experts.size(1); row += plan.rows) {
    for (int64_t column = 0; column < of.experts.size(2); column += plan.columns) {
      const int64_t rows = std::min(plan.rows, of.experts.size(1) - row);
      const int64_t width = std::min(plan.columns, of.experts.size(2) - column);
      const auto rectangle = [&](const Tensor& experts) {
        return experts.narrow(1, row, rows).narrow(2, column, width);
      };
      const Tensor slab = slabs.slab({G, rows, width});
      slabs.segment_gradients(columns(of.left, row, rows), columns(of.right, column, width), slab);
      const Tensor gradients_GK = slabs.widened(slab.view({G, rows * width}));
      if (of.gradient.defined()) {
        rectangle(of.gradient)
            .copy_(at::mm(slabs.routing().t(), gradients_GK).view({E, rows, width}));
      }
      if (drouting.defined()) {
        const Tensor experts_EK =
            rectangle(of.experts).to(slabs.compute()).reshape({E, rows * width});
        drouting.addmm_(gradients_GK, experts_EK.t());
      }
    }
  }
}

/// Temporaries of a pass over a matrix [rows, columns]: `of_bf16` numbers in fp32, or one where x
/// is.
int64_t pass_bytes(int64_t rows, int64_t columns, int64_t bytes, int64_t of_bf16) {
  const int64_t numbers = std::min(rows * columns, std::max(kPassNumbers, columns));
  return numbers * (bytes < kWide ? of_bf16 * kWide : bytes);
}

}  // namespace

int64_t batched_workspace_bytes(const ForwardPlan& plan, const FfnShape& shape, int64_t bytes) {
  const int64_t half = plan.gate_up.columns / 2, h = shape.N() * shape.F * bytes;
  const int64_t copies = shape.E * shape.expert_copy_bytes;
  return h + plan.slab_elements * shape.slab_element_bytes +
         std::max({copies * half * shape.D, copies * plan.down.columns * shape.F,
                   pass_bytes(shape.N(), half, bytes, 2)});
}

int64_t batched_workspace_bytes(const BackwardPlan& plan, const FfnShape& shape, int64_t bytes) {
  const int64_t N = shape.N(), D = shape.D, F = shape.F;
  const int64_t columns = std::min(F, plan.hidden.columns);
  const int64_t numbers =
      std::max({columns * D, F * plan.input.columns, plan.gate.rows * plan.gate.columns,
                plan.down.rows * plan.down.columns});
  return N * (3 * F + columns) * bytes + plan.slab_elements * shape.slab_element_bytes +
         std::max(shape.E * shape.expert_copy_bytes * numbers, pass_bytes(N, columns, bytes, 3));
}

std::tuple<Tensor, Tensor, Tensor> batched_forward(const Gpu& gpu, const Tensor& given_x,
                                                   at::IntArrayRef offsets, const Tensor& routing,
                                                   const Tensor& gate, const Tensor& up,
                                                   const Tensor& down, bool save) {
  const Tensor x = given_x.contiguous();
  const FfnShape shape = shape_of(x, offsets, gate);
  const int64_t N = shape.N(), D = shape.D, F = shape.F;
  const ForwardPlan plan = plan_forward(gpu, shape);
  const Slabs slabs(shape, x, routing, plan.slab_elements);
  const Tensor y = at::empty_like(x), h = at::empty({N, F}, x.options());
  const int64_t width = save ? F : std::min(F, plan.gate_up.columns / 2);
  const Tensor a = at::empty({N, width}, x.options()), b = at::empty_like(a);
  slabs.for_each(plan.gate_up, 2 * F, [&](int64_t first, int64_t C, int64_t column, int64_t count) {
    const int64_t f = column / 2, n = count / 2;
    const Tensor slab = slabs.slab({2, C, n, D});
    slabs.merge(gate.narrow(1, f, n), first, slab[0]);
    slabs.merge(up.narrow(1, f, n), first, slab[1]);
    const Tensor a_f = columns(a, save ? f : 0, n), b_f = columns(b, save ? f : 0, n);
    slabs.multiply(x, slab[0].transpose(1, 2), first, a_f);
    slabs.multiply(x, slab[1].transpose(1, 2), first, b_f);
    const auto rows = [&](const Tensor& matrix) { return slabs.rows_of(matrix, first, C); };
    swiglu(rows(a_f), rows(b_f), slabs.compute(), rows(columns(h, f, n)));
  });
  slabs.for_each(plan.down, D, [&](int64_t first, int64_t C, int64_t d, int64_t n) {
    const Tensor slab = slabs.slab({C, n, F});
    slabs.merge(down.narrow(1, d, n), first, slab);
    slabs.multiply(h, slab.transpose(1, 2), first, columns(y, d, n));
  });
  cpu::record_workspace(
      /*backward=*/false,
      batched_workspace_bytes(plan, shape, static_cast<int64_t>(x.element_size())));
  const Tensor nothing = at::empty({0}, x.options());
  if (!save) return {y, nothing, nothing.clone()};
  return {y, a.view({-1}), b.view({-1})};
}

std::array<Tensor, 5> batched_backward(const Gpu& gpu, const Tensor& given_dy,
                                       const Tensor& given_x, at::IntArrayRef offsets,
                                       const Tensor& routing, const Tensor& gate, const Tensor& up,
                                       const Tensor& down, const Tensor& saved_a,
                                       const Tensor& saved_b, const std::array<bool, 5>& needed) {
  const Tensor x = given_x.contiguous(), dy = given_dy.contiguous();
  const FfnShape shape = shape_of(x, offsets, gate);
  const int64_t N = shape.N(), D = shape.D, F = shape.F;
  const BackwardPlan plan = plan_backward(gpu, shape);
  const Slabs slabs(shape, x, routing, plan.slab_elements);
  const Tensor a = saved_a.view({N, F}), b = saved_b.view({N, F});
  const Tensor h = at::empty({N, F}, x.options()), da_db = at::empty({N, 2 * F}, x.options());
  const Tensor dh = at::empty({N, std::min(F, plan.hidden.columns)}, x.options());
  slabs.for_each(plan.hidden, F, [&](int64_t first, int64_t C, int64_t f, int64_t n) {
    const Tensor slab = slabs.slab({C, D, n});
    slabs.merge(down.narrow(2, f, n), first, slab);
    slabs.multiply(dy, slab, first, columns(dh, 0, n));
    const auto rows = [&](const Tensor& matrix, int64_t column) {
      return slabs.rows_of(columns(matrix, column, n), first, C);
    };
    swiglu(rows(a, f), rows(b, f), slabs.compute(), rows(h, f));
    swiglu_gradient(rows(dh, 0), rows(a, f), rows(b, f), slabs.compute(), rows(da_db, f),
                    rows(da_db, F + f));
  });

  std::array<Tensor, 5> gradients;
  if (needed[0]) {
    gradients[0] = at::empty_like(x);
    slabs.for_each(plan.input, D, [&](int64_t first, int64_t C, int64_t d, int64_t n) {
      const Tensor slab = slabs.slab({C, 2 * F, n});
      slabs.merge(gate.narrow(2, d, n), first, slab.narrow(1, 0, F));
      slabs.merge(up.narrow(2, d, n), first, slab.narrow(1, F, F));
      slabs.multiply(da_db, slab, first, columns(gradients[0], d, n));
    });
  }
  const Tensor drouting =
      needed[1] ? at::zeros(routing.sizes(), routing.options().dtype(slabs.compute())) : Tensor();
  const auto experts = [&](size_t i, const GradientPlan& p, const Tensor& left, const Tensor& right,
                           const Tensor& of) {
    if (needed[i]) gradients[i] = at::empty_like(of, at::MemoryFormat::Contiguous);
    reduce(slabs, p, {left, right, of, gradients[i]}, drouting);
  };
  experts(2, plan.gate, columns(da_db, 0, F), x, gate);
  experts(3, plan.gate, columns(da_db, F, F), x, up);
  experts(4, plan.down, dy, h, down);
  if (needed[1]) gradients[1] = drouting.to(routing.scalar_type());
  cpu::record_workspace(
      /*backward=*/true,
      batched_workspace_bytes(plan, shape, static_cast<int64_t>(x.element_size())));
  return gradients;
}

}  // namespace lorikeet::ops::cuda
