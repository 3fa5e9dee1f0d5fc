#pragma once
#include <cstdint>
#include <string>
#include <vector>

/// The folder in which all checkpoints of a run lie, each named by its step.
namespace lorikeet::checkpoint {

/// step_00001000
std::string name_of(int64_t step);
/// Newest first; none where the folder is missing.
/// @throws Error(kCheckpoint) where it cannot be listed
std::vector<int64_t> list_steps(const std::string& folder);
/// Clears what killed writers left behind, or makes it a checkpoint again; what a living one writes
/// stays.
void clear_leftovers(const std::string& folder);
/// As a whole, as far as anybody sees. A failure is logged.
void remove_step(const std::string& folder, int64_t step);

}  // namespace lorikeet::checkpoint
