#pragma once
#include <cstdint>
#include <string>

namespace lorikeet {

struct Consolidated {
  std::string checkpoint;  ///< folder that was read
  int64_t step = 0;
  int64_t num_parameters = 0;
  std::string tokenizer;  ///< file that was copied; empty: none was found
};

/// Makes one model directory (model_directory.h) of a checkpoint of any number of ranks. Optimizer
/// states are not read, and one tensor at a time is in memory. During the dense warm-up the model
/// is the dense one. The tokenizer is the one beside the shards of the run's data, or else
/// data.tokenizer of its configuration.
/// @param source  a checkpoint, or a run's folder: its newest whole checkpoint
/// @param output  must not exist, or be empty
/// @throws Error(kCheckpoint)
Consolidated consolidate(const std::string& source, const std::string& output);

}  // namespace lorikeet
