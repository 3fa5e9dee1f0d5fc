#include "lorikeet/checkpoint/checkpoint.h"

#include <fmt/ranges.h>

#include <chrono>
#include <filesystem>
#include <sstream>
#include <string>
#include <utility>

#include "folder.h"
#include "local_disk.h"
#include "lorikeet/core/file.h"
#include "lorikeet/core/log.h"
#include "lorikeet/parallel/together.h"
#include "snapshot.h"
#include "steps.h"

namespace lorikeet {
namespace {

using checkpoint::Snapshot;

constexpr ExitCode kCode = ExitCode::kCheckpoint;

/// A rank of another node must see the folder that rank 0 has made.
void require_shared_folder(const std::string& temporary) {
  std::error_code ignored;
  if (std::filesystem::is_directory(temporary, ignored)) return;
  throw Error(kCode, temporary + ": is not there, though rank 0 has made it",
              "put `output` on a file system that all nodes share");
}

/// Writes this rank's part. What waited on a local disk must still be what was put there.
std::string write_snapshot(const std::string& folder, int rank, const Snapshot& snapshot) {
  std::string part = checkpoint::write_part(folder, rank, snapshot.content);
  if (snapshot.part.empty() || snapshot.part == part) return part;
  throw Error(kCode,
              fmt::format("what checkpoint.local held of step {} is not what was put there",
                          snapshot.content.step),
              "that disk is damaged: set checkpoint.local to another one");
}

}  // namespace

CheckpointStore::CheckpointStore(const std::string& run_folder, const CheckpointConfig& config,
                                 std::shared_ptr<Exchange> ranks, SaveRetry retry)
    : folder_(run_folder + "/checkpoints"),
      local_(std::make_unique<checkpoint::LocalDisk>(config.local, run_folder)),
      keep_last_(config.keep_last),
      retry_(retry),
      ranks_(std::move(ranks)) {
  const Period& every = config.keep_every;
  if (!every.is_never() && every.unit != Period::Unit::kSteps) {
    throw Error(ExitCode::kInternal,
                "checkpoint: keep_every must be in steps here, not " + to_string(every));
  }
  if (!every.is_never()) keep_every_ = static_cast<int64_t>(every.value);
}

void CheckpointStore::clear_leftovers() {
  local_->clear_leftovers();
  if (ranks_->rank() == 0) checkpoint::clear_leftovers(folder_);
}

CheckpointStore::~CheckpointStore() { wait(); }

std::string CheckpointStore::path_of(int64_t step) const {
  return folder_ + "/" + checkpoint::name_of(step);
}

void CheckpointStore::save(const CheckpointContent& content) {
  wait();
  save_with_retries(checkpoint::take_snapshot(content, /*is_copied=*/false));
}

void CheckpointStore::save_in_background(const CheckpointContent& content) {
  wait();
  Snapshot snapshot = checkpoint::take_snapshot(content, /*is_copied=*/true);
  {
    const std::lock_guard lock(mutex_);
    is_saving_ = true;
  }
  worker_ = std::thread([this, snapshot = std::move(snapshot)]() mutable {
    std::optional<Error> error;
    try {
      local_->put(snapshot, ranks_->rank());
      save_with_retries(snapshot);
    } catch (const Error& caught) {
      error = caught;
    } catch (const std::exception& caught) {  // LibTorch's, out of memory
      error = Error(kCode, fmt::format("{}: {}", path_of(snapshot.content.step), caught.what()));
    }
    if (error && ranks_->rank() == 0) {
      log_error("the checkpoint of step {} was not saved, training goes on: {}",
                snapshot.content.step, error->what());
    }
    const std::lock_guard lock(mutex_);
    error_ = std::move(error);
    is_saving_ = false;
  });
}

bool CheckpointStore::is_saving() const {
  const std::lock_guard lock(mutex_);
  return is_saving_;
}

void CheckpointStore::wait() {
  if (worker_.joinable()) worker_.join();
}

std::optional<Error> CheckpointStore::take_error() {
  const std::lock_guard lock(mutex_);
  return std::exchange(error_, std::nullopt);
}

void CheckpointStore::save_with_retries(const Snapshot& snapshot) {
  for (int attempt = 1;; ++attempt) {
    try {
      return save_once(snapshot);
    } catch (const Error& error) {
      // Every rank has the same error, and so the same number of attempts.
      if (error.code() != kCode || attempt >= retry_.attempts) throw;
      if (ranks_->rank() == 0) {
        log_warning(
            "saving the checkpoint of step {} failed (attempt {} of {}), trying again in {} s: {}",
            snapshot.content.step, attempt, retry_.attempts, retry_.pause_seconds, error.what());
      }
    }
    std::this_thread::sleep_for(std::chrono::duration<double>(retry_.pause_seconds));
  }
}

/// All ranks go from one stage to the next together, or none does.
void CheckpointStore::save_once(const Snapshot& snapshot) {
  const CheckpointContent& content = snapshot.content;
  const std::string path = path_of(content.step), temporary = path + ".tmp";
  const bool is_first = ranks_->rank() == 0;
  const auto stage = [&](const char* name) {
    return fmt::format("saving step {}: {}", content.step, name);
  };

  uint64_t needed = 0;
  for (const std::string& bytes : together(*ranks_, stage("snapshot"), [&] {
         if (snapshot.failure) std::rethrow_exception(snapshot.failure);
         return std::to_string(checkpoint::bytes_needed(content));
       })) {
    needed += std::stoull(bytes);
  }
  std::optional<AtomicFolder> folder;  // rank 0's; gone again with whatever is thrown
  together(*ranks_, stage("folder"), [&] {
    if (!is_first) return "";
    checkpoint::clear_leftovers(folder_);
    checkpoint::require_space(path, needed);
    folder.emplace(path, ExistingFolder::kReplace, kCode);
    return "";
  });
  try {
    const std::vector<std::string> parts = together(*ranks_, stage("tensors"), [&] {
      require_shared_folder(temporary);
      return write_snapshot(temporary, ranks_->rank(), snapshot);
    });
    together(*ranks_, stage("manifest"), [&] {
      if (is_first) checkpoint::write_manifest(*folder, content, parts);
      return "";
    });
  } catch (const Error& error) {
    throw Error(error.code(),
                fmt::format("{} (the checkpoint needs {} bytes)", error.what(),
                            with_separators(static_cast<int64_t>(needed))),
                error.hint());
  }
  if (!is_first) return;
  try {
    apply_retention(content.step);
  } catch (const Error& error) {  // the checkpoint itself is safe
    log_warning("old checkpoints are not deleted: {}", error.what());
  }
}

void CheckpointStore::apply_retention(int64_t newest) const {
  int64_t kept = 0;
  for (const int64_t step : list()) {
    // What is broken does not count as kept, and is left for somebody to look at.
    if (step > newest || (step < newest && !checkpoint::looks_whole(path_of(step)))) continue;
    const bool is_milestone = keep_every_ > 0 && step % keep_every_ == 0;
    if (kept < keep_last_ || step == newest) {
      ++kept;
    } else if (!is_milestone) {
      checkpoint::remove_step(folder_, step);
    }
  }
}

void CheckpointStore::discard_after(int64_t step) {
  wait();
  if (ranks_->rank() != 0) return;
  for (const int64_t later : list()) {
    if (later > step) checkpoint::remove_step(folder_, later);
  }
}

std::vector<int64_t> CheckpointStore::list() const { return checkpoint::list_steps(folder_); }

CheckpointContent CheckpointStore::load(const std::string& path, const PieceFilter& is_wanted) {
  return checkpoint::read_folder(path, is_wanted);
}

CheckpointContent CheckpointStore::load(int64_t step, const PieceFilter& is_wanted) const {
  CheckpointContent content = load(path_of(step), is_wanted);
  if (content.step == step) return content;
  throw Error(kCode,
              fmt::format("{}: holds step {}, its name says {}", path_of(step), content.step, step),
              "give the folder the name " + checkpoint::name_of(content.step));
}

std::optional<CheckpointContent> CheckpointStore::load_newest(const PieceFilter& is_wanted) {
  wait();
  const bool is_first = ranks_->rank() == 0;
  // A network file system may show the ranks different lists for a while.
  std::istringstream steps(together(*ranks_, "listing the checkpoints", [&] {
                             return is_first ? fmt::format("{}", fmt::join(list(), " ")) : "";
                           }).front());
  for (int64_t step; steps >> step;) {
    std::optional<CheckpointContent> content;
    try {
      together(*ranks_, fmt::format("loading step {}", step), [&] {
        content = load(step, is_wanted);
        return "";
      });
      return content;
    } catch (const Error& error) {
      if (error.code() != kCode) throw;
      if (!warned_.insert(path_of(step)).second || !is_first) continue;
      log_warning("the checkpoint of step {} is passed over: {}", step, error.what());
    }
  }
  return std::nullopt;
}

}  // namespace lorikeet
