#pragma once
#include <string>

#include "lorikeet/config/run_config.h"
#include "lorikeet/core/error.h"

namespace lorikeet {

/// Checks ranges and the rules between fields of a model that did not come from a run's
/// configuration, such as one read from a model directory. Keys are named as in a run's
/// configuration: "model.num_heads: 7 ...".
/// @param where  put before each line, such as the file's path; may be empty
/// @throws Error with `code`, listing everything that is wrong
void validate(const ModelConfig& model, const std::string& where = "",
              ExitCode code = ExitCode::kUsage);

/// The same for a whole run that was made in code. Files are checked as they are read.
void validate(const RunConfig& config);

}  // namespace lorikeet
