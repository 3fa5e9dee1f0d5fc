#include "lorikeet/ops/functions.h"

#include <ATen/ATen.h>
#include <ATen/OpMathType.h>

#include "ragged_mean.h"

namespace lorikeet::ops {

using at::Tensor;

Tensor segment_mean(const Tensor& x, at::IntArrayRef offsets) {
  const auto compute = at::toOpMathType(x.scalar_type());
  const int64_t num_segments = static_cast<int64_t>(offsets.size()) - 1;
  const int64_t length = num_segments > 0 ? offsets[1] : 0;
  bool uniform = true;
  for (int64_t g = 0; g < num_segments; ++g) {
    TORCH_CHECK(offsets[g + 1] > offsets[g], "segment_mean: segment ", g, " is empty");
    uniform = uniform && offsets[g + 1] - offsets[g] == length;
  }
  if (uniform) return x.view({num_segments, length, x.size(1)}).mean(1, false, compute);
  if (!x.is_cpu()) return ragged_mean(x, offsets);
  std::vector<int64_t> lengths;
  for (int64_t g = 0; g < num_segments; ++g) lengths.push_back(offsets[g + 1] - offsets[g]);
  std::vector<Tensor> means;
  means.reserve(num_segments);
  // Split at once: its backward is one concatenation, where slices would each fill an [N, D] with
  // zeros.
  for (const Tensor& rows : x.split_with_sizes(lengths))
    means.push_back(rows.mean(0, false, compute));
  return at::stack(means);
}

Tensor token_losses(const Tensor& logits, const Tensor& targets) {
  return at::cross_entropy_loss(logits.to(at::toOpMathType(logits.scalar_type())), targets,
                                /*weight=*/{}, at::Reduction::None, /*ignore_index=*/-100);
}

}  // namespace lorikeet::ops
