#include "local_disk.h"

#include <filesystem>

#include "folder.h"
#include "lorikeet/core/hash.h"
#include "lorikeet/core/log.h"

namespace lorikeet::checkpoint {
namespace {

namespace fs = std::filesystem;

constexpr ExitCode kCode = ExitCode::kCheckpoint;

/// Runs of one name in different folders must not meet.
std::string folder_of_run(const std::string& folder, const std::string& run_folder) {
  const fs::path run = fs::absolute(run_folder).lexically_normal();
  return fmt::format("{}/{}-{}", folder, run.filename().string(), to_hex(hash64(run.string())));
}

void make_folder(const std::string& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (!error) return;
  throw Error(kCode, fmt::format("{}: cannot be made: {}", folder, error.message()),
              "set checkpoint.local to a folder you may write to");
}

}  // namespace

LocalDisk::LocalDisk(const std::string& folder, const std::string& run_folder)
    : folder_(folder.empty() ? "" : folder_of_run(folder, run_folder)) {}

LocalDisk::~LocalDisk() {
  std::error_code ignored;
  if (!folder_.empty()) fs::remove(folder_, ignored);  // only where it is empty
}

void LocalDisk::clear_leftovers() const {
  if (folder_.empty()) return;
  std::error_code error;  // another rank of this node may be at it too
  fs::remove_all(folder_, error);
  if (error) log_debug("{}: {}", folder_, error.message());
}

void LocalDisk::put(Snapshot& snapshot, int rank) const {
  if (folder_.empty() || snapshot.failure) return;
  try {
    make_folder(folder_);
    require_space(folder_, bytes_needed(snapshot.content));
    snapshot.part = move_part(folder_, rank, snapshot.content);
  } catch (const std::exception& error) {
    log_warning("rank {}: the checkpoint of step {} is written without checkpoint.local: {}", rank,
                snapshot.content.step, error.what());
  }
}

}  // namespace lorikeet::checkpoint
