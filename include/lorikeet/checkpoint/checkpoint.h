#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "lorikeet/checkpoint/content.h"
#include "lorikeet/config/run_config.h"
#include "lorikeet/core/error.h"
#include "lorikeet/parallel/exchange.h"

namespace lorikeet {

namespace checkpoint {
class LocalDisk;
struct Snapshot;
}  // namespace checkpoint

/// How often a failed save is tried in all, and the pause in between: disks fill and network file
/// systems stall for a while.
struct SaveRetry {
  int attempts = 3;
  double pause_seconds = 5;
};

/// Which pieces to load, by their tensor's name, first element and number of elements; an empty
/// function wants all. The others are neither read nor verified.
/// @param head  the checkpoint without its tensors
using PieceFilter = std::function<bool(const CheckpointContent& head, const std::string& name,
                                       int64_t begin, int64_t numel)>;

/// The checkpoints of one run:
///
///     RUN/checkpoints/step_00001000/tensors_rank_00000.safetensors   one a rank
///                                   state.json                       CheckpointContent::states
///                                   manifest.json                    written last
///
/// The manifest holds the format's version, step, tokens, sequences, world size, configuration,
/// code version, data fingerprint, each file's size, each tensor's dtype, shape and pieces (file,
/// first element, number of elements), and an XXH3 checksum of every byte: of each piece, of the
/// rest of its file, of state.json and of itself.
///
/// A checkpoint is written into `step_00001000.tmp`, synced, renamed: whatever the moment of a
/// crash, what has a name without suffix is whole. Saving a step again replaces it. Errors are
/// Error(kCheckpoint).
///
/// With several ranks, each has a store on the same folder, and they save and load together: every
/// rank calls the methods marked "together" with the same step, in the same order. What fails on
/// one rank fails on all, with a message that names the rank; then each tries again as often as the
/// others. Rank 0 makes and clears folders, logs, and writes what is not the ranks' tensors. Any
/// number of ranks loads what any other number saved. One run saves at a time; methods are called
/// from one thread.
class CheckpointStore {
 public:
  /// @param config  local, keep_last and keep_every (in steps, or never: the caller converts) are
  /// used
  /// @param ranks  the store's own: nothing else is gathered over it, since a thread saves. It must
  /// wait as long as the slowest rank writes and SaveRetry pauses
  CheckpointStore(const std::string& run_folder, const CheckpointConfig& config,
                  std::shared_ptr<Exchange> ranks = std::make_shared<OneRank>(),
                  SaveRetry retry = {});
  ~CheckpointStore();  ///< waits
  CheckpointStore(const CheckpointStore&) = delete;
  CheckpointStore& operator=(const CheckpointStore&) = delete;

  /// Writes, and then deletes what retention does not keep: of the steps up to this one the last
  /// `keep_last` and the multiples of `keep_every` stay. Clears what killed writers left. Waits for
  /// a save in the background first. Together.
  /// @throws Error(kInternal) where the pieces of all ranks leave out or repeat elements, or a rank
  /// does not answer (Exchange::gather)
  void save(const CheckpointContent& content);
  /// Copies the tensors to CPU memory of its own and returns; a thread does the rest of save().
  /// With `local` it moves the copy there first, which gives the memory back before the slow part;
  /// a rank that cannot keeps it in memory. Waits for the save before, if that is still running.
  /// Any failure is logged and kept for take_error(): training goes on. Together.
  void save_in_background(const CheckpointContent& content);
  /// Whether a save in the background is still running on this rank.
  bool is_saving() const;
  void wait();
  /// The latest failure in the background since the last call; none after a later success. The
  /// same on every rank.
  std::optional<Error> take_error();

  /// Removes what killed writers left, here (rank 0) and on the local disk, and brings back what
  /// one had moved aside. For a run that holds its folder, before it loads.
  void clear_leftovers();

  /// Steps of the checkpoints, newest first. What is inside is not looked at.
  std::vector<int64_t> list() const;
  /// Reads this rank's share and verifies its checksums. The tensors lie in the mapped files (they
  /// stay valid without them) and must only be read: copy them into parameters.
  /// @throws Error naming file, tensor, the checksum expected and found
  CheckpointContent load(int64_t step, const PieceFilter& is_wanted = {}) const;
  /// The same from any folder.
  static CheckpointContent load(const std::string& path, const PieceFilter& is_wanted = {});
  /// The newest of those that rank 0 sees that every rank finds whole; a broken one is passed over
  /// with one warning. None where none is whole. Together; each rank has its own filter.
  std::optional<CheckpointContent> load_newest(const PieceFilter& is_wanted = {});
  /// Deletes checkpoints of later steps; on rank 0, the others only wait for their save. For a run
  /// that goes on from an earlier one: those belong to a course of training that was given up.
  void discard_after(int64_t step);

  std::string path_of(int64_t step) const;

 private:
  void save_with_retries(const checkpoint::Snapshot& snapshot);
  void save_once(const checkpoint::Snapshot& snapshot);
  void apply_retention(int64_t newest) const;

  std::string folder_;
  std::unique_ptr<checkpoint::LocalDisk> local_;
  int64_t keep_last_;
  int64_t keep_every_ = 0;  // 0: never
  SaveRetry retry_;
  std::shared_ptr<Exchange> ranks_;
  std::set<std::string> warned_;
  std::thread worker_;
  mutable std::mutex mutex_;  // guards the two below
  bool is_saving_ = false;
  std::optional<Error> error_;
};

}  // namespace lorikeet
