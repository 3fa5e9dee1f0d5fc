#pragma once
#include <cstdint>
#include <string>

#include "lorikeet/model/language_model.h"

namespace lorikeet {

/// Fills every parameter. Each one's values are a function of (seed, its name) alone, so they do
/// not depend on the order, the device or who else is initialised.
///
/// Matrices: normal(0, init_std), truncated at init_truncation standard deviations where that is
/// set. Experts by expert_init: `preserve` draws each sqrt(E) wider, so that their uniform average
/// has a dense layer's variance; `independent` does not; `copied` draws one and copies it. Router:
/// normal(0, router_init_std). Norms 1; the learned prior and biases 0; SMEAR's router gain 0.01.
void initialise_parameters(LanguageModelImpl& model, int64_t seed);
/// One of them, by its name.
void initialise_parameter(const ModelConfig& config, const std::string& name,
                          torch::Tensor parameter, int64_t seed);

/// Dense warm-up's end (Lory, section 4.1): each dense feed-forward layer is copied into every
/// expert, all else that both models have is taken over, and what only `merged` has (routers) is
/// initialised from (seed, name).
/// @param dense, merged models that differ in feed_forward alone
void copy_dense_into_experts(const LanguageModelImpl& dense, LanguageModelImpl& merged,
                             int64_t seed);
/// One parameter of the merged model, by its name.
void copy_dense_parameter(const LanguageModelImpl& dense, const ModelConfig& merged,
                          const std::string& name, torch::Tensor parameter, int64_t seed);
/// "...mlp.experts.gate_proj.weight" -> "...mlp.gate_proj.weight"
std::string dense_parameter_name(const std::string& name);

}  // namespace lorikeet
