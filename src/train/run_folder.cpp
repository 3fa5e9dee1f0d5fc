#include "lorikeet/train/run_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "lorikeet/core/error.h"
#include "lorikeet/core/file.h"
#include "lorikeet/core/log.h"

namespace lorikeet {

namespace {

constexpr std::array kStateNames = {"running", "preempted", "diverged", "finished", "failed"};

/// In the place that the file has. @return whether all of it was written
bool overwrite(const std::string& path, const std::string& text) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (descriptor < 0) return false;
  const auto size = static_cast<ssize_t>(text.size());
  const bool is_written = ::pwrite(descriptor, text.data(), text.size(), 0) == size &&
                          ::ftruncate(descriptor, size) == 0 && ::fsync(descriptor) == 0;
  return ::close(descriptor) == 0 && is_written;
}

}  // namespace

RunFolder::RunFolder(const std::string& path, bool is_owner) : path_(path) {
  std::error_code failure;
  std::filesystem::create_directories(path, failure);
  if (failure) {
    throw Error(ExitCode::kUsage, fmt::format("{}: cannot be made: {}", path, failure.message()),
                "set `output` to a folder you may write to");
  }
  if (!is_owner) return;
  const std::string lock_path = file("lock");
  lock_ = ::open(lock_path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644);
  if (lock_ < 0) {
    throw Error(ExitCode::kUsage,
                fmt::format("{}: cannot be opened: {}", lock_path, std::strerror(errno)),
                "set `output` to a folder you may write to");
  }
  if (::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    ::close(lock_);
    throw Error(ExitCode::kUsage,
                fmt::format("{}: another process is training in this folder", path),
                "wait for it, or give this run another `name` or `output`");
  }
}

bool RunFolder::is_held(const std::string& path) {
  const int lock = ::open((path + "/lock").c_str(), O_RDWR | O_CLOEXEC);
  if (lock < 0) return false;
  const bool is_held = ::flock(lock, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  ::close(lock);
  return is_held;
}

void RunFolder::record_refusal(const std::string& path, const std::string& message) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(path, ignored)) return;
  try {
    const RunFolder folder(path);
    const RunStatus before = folder.status().value_or(RunStatus());
    if (before.state == RunState::kDiverged) return;
    folder.set_status({RunState::kFailed, before.step, before.total_steps, message});
  } catch (const std::exception& error) {
    log_debug("{}", error.what());
  }
}

RunFolder::~RunFolder() {
  if (lock_ >= 0) ::close(lock_);
}

std::optional<RunStatus> RunFolder::status() const {
  const std::string path = file("status.json");
  if (!std::filesystem::exists(path)) return std::nullopt;
  try {
    const auto json = nlohmann::json::parse(read_text_file(path, ExitCode::kCheckpoint));
    const std::string name = json.at("state");
    for (size_t i = 0; i < kStateNames.size(); ++i) {
      if (name == kStateNames[i]) {
        return RunStatus{static_cast<RunState>(i), json.at("step"), json.at("total_steps"),
                         json.at("message")};
      }
    }
  } catch (const nlohmann::json::exception&) {
  }
  throw Error(ExitCode::kCheckpoint, fmt::format("{}: is not the status of a run", path),
              "remove the file if the run is to go on");
}

void RunFolder::set_status(const RunStatus& status) const {
  if (lock_ < 0) return;
  const nlohmann::json json = {{"state", kStateNames.at(static_cast<size_t>(status.state))},
                               {"step", status.step},
                               {"total_steps", status.total_steps},
                               {"message", status.message},
                               {"pid", ::getpid()}};
  const std::string text = json.dump(1) + "\n", path = file("status.json");
  try {
    write_file_atomically(path, text, ExitCode::kCheckpoint);
  } catch (const Error&) {
    // A full disk has no room for another file, but the old one's block is there.
    if (!overwrite(path, text)) throw;
  }
}

}  // namespace lorikeet
