#include "steps.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>
#include <string_view>
#include <system_error>

#include "lorikeet/core/error.h"
#include "lorikeet/core/file.h"
#include "lorikeet/core/log.h"

namespace lorikeet::checkpoint {
namespace {

namespace fs = std::filesystem;

constexpr ExitCode kCode = ExitCode::kCheckpoint;
constexpr std::string_view kNamePrefix = "step_";
constexpr std::string_view kDeletedSuffix = ".tmp-delete";

/// The step in a name such as step_00001000.
std::optional<int64_t> step_of(std::string_view name) {
  if (!name.starts_with(kNamePrefix)) return std::nullopt;
  const std::string_view digits = name.substr(kNamePrefix.size());
  int64_t step = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), step);
  return step >= 0 && name_of(step) == name ? std::optional(step) : std::nullopt;
}

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  if (error && error != std::errc::no_such_file_or_directory) {
    throw Error(kCode, fmt::format("{}: cannot be listed: {}", folder, error.message()),
                "check that it is a folder, and its permissions");
  }
  return names;
}

}  // namespace

std::string name_of(int64_t step) { return fmt::format("{}{:08}", kNamePrefix, step); }

std::vector<int64_t> list_steps(const std::string& folder) {
  std::vector<int64_t> steps;
  for (const std::string& name : names_in(folder)) {
    if (const auto step = step_of(name)) steps.push_back(*step);
  }
  std::sort(steps.rbegin(), steps.rend());
  return steps;
}

void clear_leftovers(const std::string& folder) {
  for (const std::string& name : names_in(folder)) {
    const std::string path = folder + "/" + name;
    const fs::path stem = fs::path(name).stem();
    if (!step_of(stem.string())) continue;
    const std::string suffix = fs::path(name).extension().string();
    std::error_code ignored;
    const std::string whole = folder + "/" + stem.string();
    if (suffix == ".old" && !fs::exists(whole, ignored)) {  // the only one there is
      fs::rename(path, whole, ignored);
    } else if (suffix == kDeletedSuffix || suffix == ".old") {
      fs::remove_all(path, ignored);
    }
    if (suffix != ".tmp") continue;
    try {  // takes the lock, so that a living writer's folder stays, and clears it at its end
      const AtomicFolder leftover(whole, ExistingFolder::kReplace, kCode);
    } catch (const Error& error) {
      log_debug("{}", error.what());
    }
  }
}

void remove_step(const std::string& folder, int64_t step) {
  // Renamed first: a folder that is half deleted must not look like a checkpoint.
  const std::string path = folder + "/" + name_of(step);
  const std::string deleted = path + std::string(kDeletedSuffix);
  std::error_code error;
  fs::remove_all(deleted, error);
  fs::rename(path, deleted, error);
  if (!error) {
    fsync_folder(folder, kCode);
    fs::remove_all(deleted, error);
  }
  if (error) log_warning("{}: cannot be deleted: {}", path, error.message());
}

}  // namespace lorikeet::checkpoint
