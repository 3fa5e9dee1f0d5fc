#include "lorikeet/model/parameter_units.h"

#include <fmt/format.h>
#include <torch/torch.h>

namespace lorikeet {

std::vector<ParameterUnit> parameter_units(const LanguageModelImpl& model) {
  const ModelConfig& config = model.config();
  std::vector<ParameterUnit> units;
  units.push_back({"embedding", {}, config.tie_embeddings, config.tie_embeddings});
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    units.push_back({fmt::format("layers.{}", layer), {}});
  }
  if (!config.tie_embeddings) units.push_back({"head", {}, /*stays_gathered=*/true});
  for (const auto& parameter : model.named_parameters()) {
    const std::string& name = parameter.key();
    size_t unit = config.tie_embeddings ? 0 : units.size() - 1;
    constexpr std::string_view kLayers = "model.layers.";
    if (name.starts_with(kLayers)) {
      unit = 1 + std::stoul(name.substr(kLayers.size()));
    } else if (name.starts_with("model.embed_tokens.")) {
      unit = 0;
    }
    const bool is_router = name.find(".router.") != std::string::npos;
    const int group = (parameter.value().dim() >= 2 ? 0 : 1) + (is_router ? 2 : 0);
    units[unit].parameters.push_back({name, parameter.value(), group});
  }
  return units;
}

}  // namespace lorikeet
