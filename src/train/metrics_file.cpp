#include "lorikeet/train/metrics_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "lorikeet/core/error.h"
#include "lorikeet/core/file.h"
#include "lorikeet/core/log.h"

namespace lorikeet {

namespace {

/// The lines of `text` that a run which goes on after `last_step` keeps.
std::string kept_lines(const std::string& text, int64_t last_step) {
  std::string kept;
  size_t begin = 0;
  for (size_t end = text.find('\n'); end != std::string::npos;
       begin = end + 1, end = text.find('\n', begin)) {
    const std::string line = text.substr(begin, end - begin + 1);
    const auto row = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    const bool is_row = row.is_object() && row.contains("step") && row["step"].is_number_integer();
    if (is_row && row["step"].get<int64_t>() <= last_step) kept += line;
  }
  return kept;
}

}  // namespace

nlohmann::json read_validation(const std::string& path, int64_t step) {
  if (!std::filesystem::exists(path)) return nullptr;
  std::istringstream lines(read_text_file(path, ExitCode::kCheckpoint));
  nlohmann::json losses;
  for (std::string line; std::getline(lines, line);) {
    if (line.find("\"validation\"") == std::string::npos) continue;
    const auto row = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (row.is_object() && row.value("step", int64_t{-1}) == step && row.contains("validation")) {
      losses = row["validation"];
    }
  }
  return losses;
}

MetricsFile::MetricsFile(const std::string& path, int64_t last_step) : path_(path) {
  if (std::filesystem::exists(path)) {
    const std::string text = read_text_file(path, ExitCode::kCheckpoint);
    const std::string kept = kept_lines(text, last_step);
    if (kept.size() != text.size()) write_file_atomically(path, kept, ExitCode::kCheckpoint);
  }
  file_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
}

MetricsFile::~MetricsFile() {
  if (file_ >= 0) ::close(file_);
}

/// What a disk without room took of a line is taken back: the next row must not stand behind it.
bool MetricsFile::append(const std::string& line) const {
  const off_t end = ::lseek(file_, 0, SEEK_END);
  if (end < 0) return false;
  const ssize_t written = ::write(file_, line.data(), line.size());
  if (written == static_cast<ssize_t>(line.size())) return true;
  if (written > 0 && ::ftruncate(file_, end) != 0) {
    log_warning("{}: ends with half a row of metrics", path_);
  }
  return false;
}

void MetricsFile::write(const nlohmann::json& row) {
  if (append(row.dump() + '\n')) {
    if (rows_lost_ > 0)
      log_info("{}: can be written again; {} rows are missing", path_, rows_lost_);
    rows_lost_ = 0;
  } else if (++rows_lost_ == 1) {
    log_error("{}: cannot be written; training goes on without it", path_);
  }
}

}  // namespace lorikeet
