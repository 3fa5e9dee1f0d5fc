#pragma once
// What the merged operators' tests share.
#include <torch/torch.h>

#include <numeric>
#include <string>
#include <vector>

#include "src/ops/cpu/level.h"

namespace lorikeet::ops {

/// Row numbers where segments of these lengths begin, and their end.
inline std::vector<int64_t> offsets_of(const std::vector<int64_t>& lengths) {
  std::vector<int64_t> offsets(lengths.size() + 1, 0);
  std::partial_sum(lengths.begin(), lengths.end(), offsets.begin() + 1);
  return offsets;
}

/// |actual - expected| / |expected|, in fp64; the difference itself where nothing is expected.
inline double relative_error(const torch::Tensor& actual, const torch::Tensor& expected) {
  const torch::Tensor wide = expected.to(torch::kDouble);
  const double scale = wide.norm().item<double>();
  return (actual.to(torch::kDouble) - wide).norm().item<double>() / (scale == 0 ? 1 : scale);
}

/// Puts the level back when a test ends.
class AtLevel {
 public:
  explicit AtLevel(const std::string& name) { cpu::force_level(name); }
  ~AtLevel() { cpu::force_level(""); }
};

}  // namespace lorikeet::ops
