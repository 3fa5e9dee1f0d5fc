#include "lorikeet/optim/clip.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace lorikeet {
namespace {

constexpr int64_t kPieceElements =
    32768;                      // one thread's work; fixed, so that sums do not depend on it
constexpr int64_t kLanes = 16;  // independent sums, which the compiler can keep in vectors
constexpr double kEps = 1e-6;   // torch.nn.utils.clip_grad_norm_

template <class T>
double sum_of_squares(const T* data, int64_t size) {
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

template <class T>
double sum_of_squares_in_pieces(const torch::Tensor& gradient) {
  const T* data = gradient.const_data_ptr<T>();
  const int64_t size = gradient.numel();
  std::vector<double> sums((size + kPieceElements - 1) / kPieceElements);
  at::parallel_for(0, static_cast<int64_t>(sums.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t piece = begin; piece < end; ++piece) {
      const int64_t first = piece * kPieceElements;
      sums[piece] = sum_of_squares(data + first, std::min(kPieceElements, size - first));
    }
  });
  double sum = 0;
  for (const double piece_sum : sums) sum += piece_sum;
  return sum;
}

double norm_on_cpu(const std::vector<torch::Tensor>& gradients) {
  double sum = 0;
  for (const torch::Tensor& gradient : gradients) {
    if (gradient.scalar_type() == torch::kDouble) {
      sum += sum_of_squares_in_pieces<double>(gradient.contiguous());
    } else {
      sum += sum_of_squares_in_pieces<float>(gradient.to(torch::kFloat).contiguous());
    }
  }
  return std::sqrt(sum);
}

torch::Tensor global_norm(const std::vector<torch::Tensor>& gradients) {
  if (gradients.empty() || gradients.front().is_cpu()) {
    return torch::tensor(norm_on_cpu(gradients), torch::kDouble);
  }
  const torch::Tensor norms = torch::stack(at::_foreach_norm(gradients, 2));
  return norms.to(torch::kDouble).square().sum().sqrt();
}

}  // namespace

torch::Tensor clip_gradients_without_sync(const std::vector<torch::Tensor>& parameters,
                                          double max_norm) {
  const torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> gradients;
  for (const torch::Tensor& parameter : parameters) {
    if (parameter.grad().defined()) gradients.push_back(parameter.grad());
  }
  const torch::Tensor norm = global_norm(gradients);
  if (max_norm == 0 || gradients.empty()) return norm;

  const torch::Tensor factor = (max_norm / (norm + kEps)).clamp_max(1.0);
  const torch::Tensor safe_factor = factor.masked_fill(torch::isfinite(norm).logical_not(), 1.0);
  if (norm.is_cpu() && safe_factor.item<double>() == 1.0) return norm;
  at::_foreach_mul_(gradients, safe_factor.to(gradients.front().scalar_type()));
  return norm;
}

double clip_gradients(const std::vector<torch::Tensor>& parameters, double max_norm) {
  return clip_gradients_without_sync(parameters, max_norm).item<double>();
}

}  // namespace lorikeet
