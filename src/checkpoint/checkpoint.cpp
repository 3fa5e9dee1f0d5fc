#include "lorikeet/checkpoint/checkpoint.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <filesystem>

#include "folder.h"
#include "lorikeet/core/file.h"
#include "lorikeet/core/log.h"

namespace lorikeet {
namespace {

namespace fs = std::filesystem;

constexpr ExitCode kCode = ExitCode::kCheckpoint;
constexpr std::string_view kNamePrefix = "step_";
constexpr std::string_view kDeletedSuffix = ".tmp-delete";

std::string name_of(int64_t step) { return fmt::format("{}{:08}", kNamePrefix, step); }

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

/// The same content, dense and on the CPU. @param is_copied  also where it is so already
CheckpointContent on_cpu(const CheckpointContent& content, bool is_copied) {
  const torch::NoGradGuard no_grad;
  CheckpointContent result = content;
  for (auto& [name, tensor] : result.tensors) {
    if (!tensor.defined()) {
      throw Error(ExitCode::kInternal, "checkpoint: tensor '" + name + "' is undefined");
    }
    const bool is_ready = tensor.is_cpu() && tensor.is_contiguous() && !tensor.is_neg();
    if (is_ready && !is_copied) continue;
    const auto options = tensor.options().device(torch::kCPU).requires_grad(false);
    tensor = torch::empty(tensor.sizes(), options).copy_(tensor);
  }
  return result;
}

}  // namespace

CheckpointStore::CheckpointStore(const std::string& run_folder, const CheckpointConfig& config,
                                 SaveRetry retry)
    : folder_(run_folder + "/checkpoints"), keep_last_(config.keep_last), retry_(retry) {
  const Period& every = config.keep_every;
  if (!every.is_never() && every.unit != Period::Unit::kSteps) {
    throw Error(ExitCode::kInternal,
                "checkpoint: keep_every must be in steps here, not " + to_string(every));
  }
  if (!every.is_never()) keep_every_ = static_cast<int64_t>(every.value);
}

CheckpointStore::~CheckpointStore() { wait(); }

std::string CheckpointStore::path_of(int64_t step) const { return folder_ + "/" + name_of(step); }

void CheckpointStore::save(const CheckpointContent& content) {
  wait();
  save_with_retries(on_cpu(content, /*is_copied=*/false));
}

void CheckpointStore::save_in_background(const CheckpointContent& content) {
  wait();
  CheckpointContent snapshot = on_cpu(content, /*is_copied=*/true);
  {
    const std::lock_guard lock(mutex_);
    is_saving_ = true;
  }
  worker_ = std::thread([this, snapshot = std::move(snapshot)] {
    std::optional<Error> error;
    try {
      save_with_retries(snapshot);
    } catch (const Error& caught) {
      error = caught;
    } catch (const std::exception& caught) {  // LibTorch's, out of memory
      error = Error(kCode, fmt::format("{}: {}", path_of(snapshot.step), caught.what()));
    }
    if (error) {
      log_error("the checkpoint of step {} was not saved, training goes on: {}", snapshot.step,
                error->what());
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

void CheckpointStore::save_with_retries(const CheckpointContent& cpu_content) {
  for (int attempt = 1;; ++attempt) {
    try {
      return save_once(cpu_content);
    } catch (const Error& error) {
      if (error.code() != kCode || attempt >= retry_.attempts) throw;
      log_warning(
          "saving the checkpoint of step {} failed (attempt {} of {}), trying again in {} s: {}",
          cpu_content.step, attempt, retry_.attempts, retry_.pause_seconds, error.what());
    }
    std::this_thread::sleep_for(std::chrono::duration<double>(retry_.pause_seconds));
  }
}

void CheckpointStore::save_once(const CheckpointContent& cpu_content) {
  const std::string path = path_of(cpu_content.step);
  const uint64_t needed = checkpoint::bytes_needed(cpu_content);
  clear_leftovers();
  const uint64_t free = free_disk_bytes(folder_, kCode);
  if (free < needed) {
    throw Error(kCode,
                fmt::format("{}: the checkpoint needs {} bytes, but the disk has {} left", path,
                            with_separators(static_cast<int64_t>(needed)),
                            with_separators(static_cast<int64_t>(free))),
                "make room on that disk, or keep fewer checkpoints (checkpoint.keep_last)");
  }
  try {
    checkpoint::write_folder(path, cpu_content);
  } catch (const Error& error) {
    throw Error(error.code(),
                fmt::format("{} (the checkpoint needs {} bytes)", error.what(),
                            with_separators(static_cast<int64_t>(needed))),
                error.hint());
  }
  try {
    apply_retention(cpu_content.step);
  } catch (const Error& error) {  // the checkpoint itself is safe
    log_warning("old checkpoints are not deleted: {}", error.what());
  }
}

void CheckpointStore::clear_leftovers() const {
  for (const std::string& name : names_in(folder_)) {
    const std::string path = folder_ + "/" + name;
    const fs::path stem = fs::path(name).stem();
    if (!step_of(stem.string())) continue;
    const std::string suffix = fs::path(name).extension().string();
    std::error_code ignored;
    const std::string whole = folder_ + "/" + stem.string();
    if (suffix == ".old" && !fs::exists(whole, ignored)) fs::rename(path, whole, ignored);
    if (suffix == kDeletedSuffix || suffix == ".old") fs::remove_all(path, ignored);
    if (suffix != ".tmp") continue;
    try {  // takes the lock, so that a living writer's folder stays, and clears it at its end
      const AtomicFolder leftover(whole, ExistingFolder::kReplace, kCode);
    } catch (const Error& error) {
      log_debug("{}", error.what());
    }
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
      remove(step);
    }
  }
}

void CheckpointStore::remove(int64_t step) const {
  // Renamed first: a folder that is half deleted must not look like a checkpoint.
  const std::string path = path_of(step);
  const std::string deleted = path + std::string(kDeletedSuffix);
  std::error_code error;
  fs::remove_all(deleted, error);
  fs::rename(path, deleted, error);
  if (!error) {
    fsync_folder(folder_, kCode);
    fs::remove_all(deleted, error);
  }
  if (error) log_warning("{}: cannot be deleted: {}", path, error.message());
}

void CheckpointStore::discard_after(int64_t step) {
  wait();
  for (const int64_t later : list()) {
    if (later > step) remove(later);
  }
}

std::vector<int64_t> CheckpointStore::list() const {
  std::vector<int64_t> steps;
  for (const std::string& name : names_in(folder_)) {
    if (const auto step = step_of(name)) steps.push_back(*step);
  }
  std::sort(steps.rbegin(), steps.rend());
  return steps;
}

CheckpointContent CheckpointStore::load(const std::string& path) {
  return checkpoint::read_folder(path);
}

CheckpointContent CheckpointStore::load(int64_t step) const {
  CheckpointContent content = load(path_of(step));
  if (content.step == step) return content;
  throw Error(kCode,
              fmt::format("{}: holds step {}, its name says {}", path_of(step), content.step, step),
              "give the folder the name " + name_of(content.step));
}

std::optional<CheckpointContent> CheckpointStore::load_newest() {
  wait();
  for (const int64_t step : list()) {
    try {
      return load(step);
    } catch (const Error& error) {
      if (error.code() != kCode) throw;
      if (!warned_.insert(path_of(step)).second) continue;
      log_warning("the checkpoint of step {} is passed over: {}", step, error.what());
    }
  }
  return std::nullopt;
}

}  // namespace lorikeet
