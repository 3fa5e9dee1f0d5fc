#pragma once
#include <string>

#include "snapshot.h"

namespace lorikeet::checkpoint {

/// A fast disk of this node, on which a rank's snapshot waits while it is copied to the run's
/// folder, so that it holds no memory.
///
/// What lies there has no name: the file is mapped and removed as soon as it is written, so its
/// space comes back with the last view of it, also when the process is killed. No checkpoint is
/// ever read from here.
class LocalDisk {
 public:
  /// @param folder  `checkpoint.local`; empty: none, and put() does nothing
  /// @param run_folder  tells runs apart that share `folder`
  LocalDisk(const std::string& folder, const std::string& run_folder);
  ~LocalDisk();  ///< removes the run's folder there, once nobody writes in it
  LocalDisk(const LocalDisk&) = delete;
  LocalDisk& operator=(const LocalDisk&) = delete;

  /// Clears what killed writers of this run left on this node: files that were not complete. For
  /// the start, before any rank saves.
  void clear_leftovers() const;
  /// Writes the pieces and puts views of the file in their place. Where that fails (a full disk)
  /// the snapshot stays in memory, and a warning says why.
  void put(Snapshot& snapshot, int rank) const;

 private:
  std::string folder_;
};

}  // namespace lorikeet::checkpoint
