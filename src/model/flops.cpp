#include "lorikeet/model/flops.h"

#include <algorithm>

namespace lorikeet {

double training_flops_per_token(const ModelConfig& config) {
  const double D = static_cast<double>(config.hidden_size);
  const double H = static_cast<double>(config.head_size());
  const double q = static_cast<double>(config.num_heads) * H;
  const double kv = static_cast<double>(config.kv_heads()) * H;
  const double ffn = 3 * D * static_cast<double>(config.ffn_size);
  const double weights = D * (2 * q + 2 * kv) + ffn;
  const double attention = 2 * q * static_cast<double>(config.context_length) / 2;  // causal: half
  double layer = 6 * (weights + attention);
  if (config.is_merged()) {
    const double E = static_cast<double>(config.feed_forward.num_experts);
    const double L = static_cast<double>(config.context_length);
    double T = static_cast<double>(config.feed_forward.segment_length);  // tokens a merge serves
    if (config.feed_forward.routing == Routing::kSequence) T = L;
    if (config.feed_forward.routing == Routing::kPrefix) T = std::max(T, L / 2);
    layer += 8 * ffn * E / T;  // merge, merge again, expert gradients, routing gradients: 2 each
  }
  return static_cast<double>(config.num_layers) * layer +
         6 * D * static_cast<double>(config.vocab_size);
}

}  // namespace lorikeet
