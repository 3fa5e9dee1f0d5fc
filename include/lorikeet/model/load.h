#pragma once
#include <string>

#include "lorikeet/model/language_model.h"
#include "lorikeet/storage/model_directory.h"

namespace lorikeet {

/// Builds the model that a model directory holds, in evaluation mode, with fp32 parameters on
/// `device`.
/// @throws Error(kCheckpoint): missing, truncated or pickled files, tensors that are missing,
/// unexpected or of a wrong shape
LanguageModel load_language_model(const std::string& directory, torch::Device device = torch::kCPU,
                                  torch::ScalarType dtype = torch::kFloat32);

/// Parameters by name, for write_model_directory and checkpoints; they share the model's memory.
NamedTensors named_weights(const LanguageModelImpl& model);

}  // namespace lorikeet
