#include "lorikeet/optim/clip.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace lorikeet {
namespace {

constexpr int64_t kBlock = 1024;  // summed in double; fixed, so that sums do not depend on threads
constexpr int64_t kBlocksPerThread = 32;
constexpr int64_t kLanes = 16;  // independent sums, which the compiler can keep in vectors
constexpr double kEps = 1e-6;   // torch.nn.utils.clip_grad_norm_

template <class T>
double block_sum(const T* data, int64_t size) {
  std::array<double, kLanes> sums = {};
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const double value = data[i + lane];
      sums[lane] += value * value;
    }
  }
  for (; i < size; ++i) sums[i % kLanes] += static_cast<double>(data[i]) * data[i];
  double sum = 0;
  for (const double lane_sum : sums) sum += lane_sum;
  return sum;
}

/// A sum carried to twice the precision, so that its rounded value does not depend on the order.
struct DoubleDouble {
  double high = 0, low = 0;

  void add(double value) {  // Knuth's two-sum
    const double sum = high + value, part = sum - high;
    low += (high - (sum - part)) + (value - part);
    high = sum;
  }
  void add(const DoubleDouble& other) {
    add(other.high);
    low += other.low;
  }
};

template <class T>
void add_blocks(const torch::Tensor& gradient, DoubleDouble& sum) {
  const T* data = gradient.const_data_ptr<T>();
  const int64_t size = gradient.numel();
  std::vector<double> sums((size + kBlock - 1) / kBlock);
  at::parallel_for(0, static_cast<int64_t>(sums.size()), kBlocksPerThread,
                   [&](int64_t begin, int64_t end) {
                     for (int64_t block = begin; block < end; ++block) {
                       const int64_t first = block * kBlock;
                       sums[block] = block_sum(data + first, std::min(kBlock, size - first));
                     }
                   });
  for (const double block : sums) sum.add(block);
}

std::vector<torch::Tensor> gradients_of(const std::vector<torch::Tensor>& parameters) {
  std::vector<torch::Tensor> gradients;
  for (const torch::Tensor& parameter : parameters) {
    if (parameter.grad().defined()) gradients.push_back(parameter.grad());
  }
  return gradients;
}

}  // namespace

torch::Tensor sum_of_squares(const std::vector<torch::Tensor>& parameters) {
  const torch::NoGradGuard no_grad;
  const std::vector<torch::Tensor> gradients = gradients_of(parameters);
  if (!gradients.empty() && !gradients.front().is_cpu()) {
    const torch::Tensor norms = torch::stack(at::_foreach_norm(gradients, 2)).to(torch::kDouble);
    const torch::Tensor sum = norms.square().sum();
    return torch::stack({sum, torch::zeros_like(sum)});
  }
  DoubleDouble sum;
  for (const torch::Tensor& gradient : gradients) {
    if (gradient.scalar_type() == torch::kDouble) {
      add_blocks<double>(gradient.contiguous(), sum);
    } else {
      add_blocks<float>(gradient.to(torch::kFloat).contiguous(), sum);
    }
  }
  return torch::tensor({sum.high, sum.low}, torch::kDouble);
}

torch::Tensor norm_of(const torch::Tensor& sums_P2) {
  const torch::NoGradGuard no_grad;
  if (!sums_P2.is_cpu()) return sums_P2.sum().sqrt();
  DoubleDouble sum;
  const auto sums = sums_P2.accessor<double, 2>();
  for (int64_t rank = 0; rank < sums.size(0); ++rank) sum.add({sums[rank][0], sums[rank][1]});
  return torch::tensor(std::sqrt(sum.high + sum.low), torch::kDouble);
}

void scale_gradients(const std::vector<torch::Tensor>& parameters, const torch::Tensor& norm,
                     double max_norm) {
  const torch::NoGradGuard no_grad;
  const std::vector<torch::Tensor> gradients = gradients_of(parameters);
  if (max_norm == 0 || gradients.empty()) return;
  const torch::Tensor factor = (max_norm / (norm + kEps)).clamp_max(1.0);
  const torch::Tensor safe_factor = factor.masked_fill(torch::isfinite(norm).logical_not(), 1.0);
  if (norm.is_cpu() && safe_factor.item<double>() == 1.0) return;
  at::_foreach_mul_(gradients, safe_factor.to(gradients.front().scalar_type()));
}

double clip_gradients(const std::vector<torch::Tensor>& parameters, double max_norm) {
  const torch::Tensor norm = norm_of(sum_of_squares(parameters).unsqueeze(0));
  scale_gradients(parameters, norm, max_norm);
  return norm.item<double>();
}

}  // namespace lorikeet
