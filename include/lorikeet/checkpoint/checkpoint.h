#pragma once
#include <torch/torch.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "lorikeet/config/run_config.h"
#include "lorikeet/core/error.h"

namespace lorikeet {

/// Everything a run needs to go on as if it had never stopped.
struct CheckpointContent {
  int64_t step = 0;  ///< optimizer steps taken
  int64_t tokens = 0;
  int64_t sequences = 0;  ///< sequences consumed: the place in the data
  /// Parameters, optimizer moments, random generators, by unique names, on any device.
  std::vector<std::pair<std::string, torch::Tensor>> tensors;
  /// Small states by name, each a JSON text (returned compact, keys sorted).
  std::map<std::string, std::string> states;
  std::string config_yaml;
  std::string code_version;
  std::string data_fingerprint;
  int world_size = 1;
};

/// How often a failed save is tried in all, and the pause in between: disks fill and network file
/// systems stall for a while.
struct SaveRetry {
  int attempts = 3;
  double pause_seconds = 5;
};

/// The checkpoints of one run:
///
///     RUN/checkpoints/step_00001000/tensors_rank_00000.safetensors   one a rank
///                                   state.json                       CheckpointContent::states
///                                   manifest.json                    written last
///
/// The manifest holds the format's version, step, tokens, sequences, world size, configuration,
/// code version, data fingerprint, each file's size, each tensor's file, dtype and shape, and an
/// XXH3 checksum of every byte: of each tensor, of the rest of its file, of state.json and of
/// itself.
///
/// A checkpoint is written into `step_00001000.tmp`, synced, renamed: whatever the moment of a
/// crash, what has a name without suffix is whole. Saving a step again replaces it. Errors are
/// Error(kCheckpoint). One process saves at a time; methods are called from one thread.
class CheckpointStore {
 public:
  /// @param config  keep_last and keep_every (in steps, or never: the caller converts) are used
  CheckpointStore(const std::string& run_folder, const CheckpointConfig& config,
                  SaveRetry retry = {});
  ~CheckpointStore();  ///< waits
  CheckpointStore(const CheckpointStore&) = delete;
  CheckpointStore& operator=(const CheckpointStore&) = delete;

  /// Writes, and then deletes what retention does not keep: of the steps up to this one the last
  /// `keep_last` and the multiples of `keep_every` stay. Clears what killed writers left. Waits for
  /// a save in the background first.
  void save(const CheckpointContent& content);
  /// Copies the tensors to CPU memory of its own and returns; a thread does the rest of save().
  /// Waits for the save before, if that is still running. A failure is logged and kept for
  /// take_error(): training goes on.
  void save_in_background(const CheckpointContent& content);
  /// Whether a save in the background is still running.
  bool is_saving() const;
  void wait();
  /// The latest failure in the background since the last call; none after a later success.
  std::optional<Error> take_error();

  /// Steps of the checkpoints, newest first. What is inside is not looked at.
  std::vector<int64_t> list() const;
  /// Reads and verifies every checksum. The tensors lie in the mapped file (they stay valid without
  /// it) and must only be read: copy them into parameters.
  /// @throws Error naming file, tensor, the checksum expected and found
  CheckpointContent load(int64_t step) const;
  /// The same from any folder.
  static CheckpointContent load(const std::string& path);
  /// The newest whole one; a broken one is passed over with one warning. None where none is whole.
  std::optional<CheckpointContent> load_newest();
  /// Deletes checkpoints of later steps. For a run that goes on from an earlier one: those belong
  /// to a course of training that was given up.
  void discard_after(int64_t step);

  std::string path_of(int64_t step) const;

 private:
  void save_with_retries(const CheckpointContent& cpu_content);
  void save_once(const CheckpointContent& cpu_content);
  void clear_leftovers() const;
  void apply_retention(int64_t newest) const;
  void remove(int64_t step) const;

  std::string folder_;
  int64_t keep_last_;
  int64_t keep_every_ = 0;  // 0: never
  SaveRetry retry_;
  std::set<std::string> warned_;
  std::thread worker_;
  mutable std::mutex mutex_;  // guards the two below
  bool is_saving_ = false;
  std::optional<Error> error_;
};

}  // namespace lorikeet
