#include "lorikeet/model/load.h"

#include <torch/torch.h>

namespace lorikeet {

LanguageModel load_language_model(const std::string& directory, torch::Device device,
                                  torch::ScalarType dtype) {
  const ModelConfig config = read_model_config(directory);
  const ModelReader reader(directory);
  // Compared on meta first, so that a wrong directory costs no memory.
  const LanguageModel shapes(config, torch::TensorOptions(torch::kMeta));
  std::vector<std::pair<std::string, std::vector<int64_t>>> expected;
  for (const auto& parameter : shapes->named_parameters()) {
    expected.emplace_back(parameter.key(), parameter.value().sizes().vec());
  }
  check_tensors(reader, expected);

  LanguageModel model(config, torch::TensorOptions(dtype).device(device));
  const torch::NoGradGuard no_grad;
  for (auto& parameter : model->named_parameters()) {
    parameter.value().copy_(reader.view(parameter.key()));
  }
  model->eval();
  return model;
}

NamedTensors named_weights(const LanguageModelImpl& model) {
  NamedTensors weights;
  for (const auto& parameter : model.named_parameters()) {
    weights.emplace_back(parameter.key(), parameter.value().detach());
  }
  return weights;
}

}  // namespace lorikeet
