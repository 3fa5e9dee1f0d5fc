#pragma once
#include <optional>
#include <string>
#include <vector>

#include "input_chunks.h"
#include "lorikeet/data/manifest.h"

namespace lorikeet {

inline constexpr char kProgressFile[] = "progress.json";

/// How far a tokenisation is, written after every shard. With it a stopped run goes on where the
/// last shard ends.
struct TokenizeState {
  std::string made_from;  ///< JSON: inputs and options
  InputPosition position;
  int64_t skipped_lines = 0;
  std::vector<ShardRecord> shards;
};

void write_state(const std::string& folder, const TokenizeState& state);
/// Nothing where no run was stopped here. @throws Error(kData) for a damaged file
std::optional<TokenizeState> read_state(const std::string& folder);

/// One run at a time in a folder: a second one is refused. (A lock of the system's, gone with the
/// process; on file systems without flock two runs are not noticed.)
class FolderLock {
 public:
  explicit FolderLock(const std::string& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int descriptor_;
};

/// Removes half-written files that a killed run left; with `finished` the finished ones too.
void remove_run_files(const std::string& folder, bool finished);

/// @throws Error(kData) naming the first entry that differs, where the two runs are not the same
void require_same_run(const std::string& folder, const std::string& before, const std::string& now);

}  // namespace lorikeet
