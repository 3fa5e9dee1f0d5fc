// N layers, G segments, E experts.
#include "lorikeet/train/routing_statistics.h"

#include <fmt/format.h>
#include <torch/torch.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

namespace lorikeet {

namespace {

template <class T>
std::vector<T> to_vector(const torch::Tensor& values) {
  const torch::Tensor cpu = values.to(torch::kCPU, c10::CppTypeToScalarType<T>::value).contiguous();
  return {cpu.data_ptr<T>(), cpu.data_ptr<T>() + cpu.numel()};
}

std::string layer_prefix(int64_t layer) { return fmt::format("model.layers.{}.mlp.", layer); }

}  // namespace

void RoutingStatistics::add(const std::vector<RoutingRecord>& routing) {
  std::vector<torch::Tensor> layers;
  for (const RoutingRecord& record : routing) {
    if (record.weights_GE.defined()) layers.push_back(record.weights_GE);
  }
  if (layers.empty()) return;
  const torch::Tensor weights_NGE = torch::stack(layers);
  if (num_segments_ > 0 && sum_LE_.device() != weights_NGE.device()) {  // fresh from load_state
    for (torch::Tensor* sum : {&sum_LE_, &max_LE_, &entropy_L_})
      *sum = sum->to(weights_NGE.device());
  }
  const torch::Tensor sum = weights_NGE.sum(1), max = weights_NGE.amax(1);
  const torch::Tensor entropy = -torch::xlogy(weights_NGE, weights_NGE).sum({1, 2});
  sum_LE_ = num_segments_ == 0 ? sum : sum_LE_ + sum;
  max_LE_ = num_segments_ == 0 ? max : torch::maximum(max_LE_, max);
  entropy_L_ = num_segments_ == 0 ? entropy : entropy_L_ + entropy;
  num_segments_ += weights_NGE.size(1);
}

nlohmann::json RoutingStatistics::report() {
  if (num_segments_ == 0) return nullptr;
  const auto count = static_cast<double>(num_segments_);
  const double active = 2.0 / static_cast<double>(max_LE_.size(1));
  nlohmann::json report;
  report["entropy"] = to_vector<double>(entropy_L_ / count);
  report["max_weight"] = to_vector<double>(max_LE_.amax(1));
  for (const torch::Tensor& layer : (sum_LE_ / count).unbind(0)) {
    report["mean_weight"].push_back(to_vector<double>(layer));
  }
  report["active_experts"] = to_vector<int64_t>((max_LE_ > active).sum(1));
  *this = RoutingStatistics();
  return report;
}

void RoutingStatistics::fold_into_first(World& world) {
  if (world.size() == 1 || !sum_LE_.defined()) return;
  const int64_t L = sum_LE_.size(0), LE = sum_LE_.numel();
  const torch::Tensor count = torch::full({1}, num_segments_, entropy_L_.options());
  const torch::Tensor mine =
      torch::cat({sum_LE_.flatten(), max_LE_.flatten(), entropy_L_, count}).to(torch::kDouble);
  torch::Tensor all = torch::empty({world.size() * mine.numel()}, mine.options());
  world.mesh().world().all_gather(all, mine, "routing statistics");
  if (!world.is_first()) return forget();
  all = all.view({world.size(), -1});
  const auto dtype = sum_LE_.scalar_type();
  sum_LE_ = all.slice(1, 0, LE).sum(0).view_as(sum_LE_).to(dtype);
  max_LE_ = all.slice(1, LE, 2 * LE).amax(0).view_as(max_LE_).to(dtype);
  entropy_L_ = all.slice(1, 2 * LE, 2 * LE + L).sum(0).to(dtype);
  num_segments_ = all.select(1, 2 * LE + L).sum().item<int64_t>();
}

void RoutingStatistics::forget() {
  num_segments_ = 0;
  for (torch::Tensor* sum : {&sum_LE_, &max_LE_, &entropy_L_}) {
    if (sum->defined()) *sum = torch::zeros_like(*sum);
  }
}

std::string RoutingStatistics::state() const {
  if (num_segments_ == 0) return "{}";
  return nlohmann::json{{"segments", num_segments_},
                        {"experts", sum_LE_.size(1)},
                        {"sum", to_vector<double>(sum_LE_)},
                        {"max", to_vector<double>(max_LE_)},
                        {"entropy", to_vector<double>(entropy_L_)}}
      .dump();
}

void RoutingStatistics::load_state(const std::string& text) {
  *this = RoutingStatistics();
  const auto json = nlohmann::json::parse(text);
  if (json.empty()) return;
  const auto values = [&](const char* key) {
    std::vector<double> numbers;
    for (const auto& number : json.at(key)) {  // JSON has null for what is not finite
      numbers.push_back(number.is_null() ? std::numeric_limits<double>::quiet_NaN()
                                         : number.get<double>());
    }
    return torch::tensor(numbers, torch::kDouble).to(torch::kFloat32);
  };
  const int64_t num_experts = json.at("experts");
  num_segments_ = json.at("segments");
  sum_LE_ = values("sum").view({-1, num_experts});
  max_LE_ = values("max").view({-1, num_experts});
  entropy_L_ = values("entropy");
}

std::vector<double> largest_expert_distances(const LanguageModelImpl& model) {
  if (!model.config().is_merged()) return {};
  const torch::NoGradGuard no_grad;
  const auto parameters = model.named_parameters();
  std::vector<torch::Tensor> distances;
  for (int64_t layer = 0; layer < model.config().num_layers; ++layer) {
    torch::Tensor squares_EE;
    for (const char* matrix : {"gate_proj", "up_proj", "down_proj"}) {
      const torch::Tensor flat_EK =
          parameters[layer_prefix(layer) + "experts." + matrix + ".weight"].flatten(1);
      // Differences from the first expert: exact zeros for copies, no cancellation for near ones.
      const torch::Tensor apart_EK = flat_EK - flat_EK.narrow(0, 0, 1);
      const torch::Tensor inner_EE = apart_EK.mm(apart_EK.t());
      const torch::Tensor own_E = inner_EE.diagonal();
      const torch::Tensor part = own_E.unsqueeze(0) + own_E.unsqueeze(1) - 2 * inner_EE;
      squares_EE = squares_EE.defined() ? squares_EE + part : part;
    }
    distances.push_back(squares_EE.amax().clamp_min(0).sqrt());
  }
  return to_vector<double>(torch::stack(distances));
}

std::vector<double> router_gradient_norms(const ShardedParameters& parameters, World& world) {
  const torch::NoGradGuard no_grad;
  const int64_t num_layers = parameters.num_units();  // at most
  torch::Tensor squares =
      torch::zeros({num_layers}, torch::TensorOptions(world.device()).dtype(torch::kDouble));
  torch::Tensor is_there = torch::zeros_like(squares);
  for (const ParameterPiece& piece : parameters.pieces()) {
    constexpr std::string_view kRouter = ".router.weight";
    if (!piece.name.ends_with(kRouter) || world.mesh().replica() > 0) continue;
    const torch::Tensor gradient =
        parameters.optimizer_tensors()[piece.tensor].values.grad().narrow(0, piece.offset,
                                                                          piece.numel);
    const int64_t layer = std::stoll(piece.name.substr(std::string_view("model.layers.").size()));
    squares[layer] += gradient.to(torch::kDouble).square().sum();
    is_there[layer] += 1;
  }
  torch::Tensor both = torch::cat({squares, is_there});
  world.mesh().world().all_reduce(both, "router gradients");
  std::vector<double> norms;
  const std::vector<double> all = to_vector<double>(both);
  for (int64_t layer = 0; layer < num_layers; ++layer) {
    if (all[num_layers + layer] > 0) norms.push_back(std::sqrt(all[layer]));
  }
  return norms;
}

}  // namespace lorikeet
