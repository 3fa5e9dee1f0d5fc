#include "lorikeet/model/parameter_count.h"

#include <string_view>

#include "lorikeet/model/language_model.h"

namespace lorikeet {

ParameterCount count_parameters(const ModelConfig& config) {
  ParameterCount count;
  count.num_experts = config.is_merged() ? config.feed_forward.num_experts : 1;
  const LanguageModel model(config, torch::TensorOptions(torch::kMeta));
  for (const auto& parameter : model->named_parameters()) {
    const std::string_view name = parameter.key();
    const int64_t size = parameter.value().numel();
    const auto has = [&](std::string_view part) { return name.find(part) != name.npos; };
    if (has(".mlp.experts.")) {
      count.experts += size;
    } else if (has(".mlp.router.")) {
      count.routers += size;
    } else if (has(".mlp.")) {
      count.feed_forward += size;
    } else if (has(".self_attn.")) {
      count.attention += size;
    } else if (has("embed_tokens") || has("lm_head")) {
      count.embeddings += size;
    } else {
      count.norms += size;
    }
  }
  return count;
}

}  // namespace lorikeet
