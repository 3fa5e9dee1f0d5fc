#include "lorikeet/train/metrics_file.h"

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
  file_.open(path, std::ios::app);
}

void MetricsFile::write(const nlohmann::json& row) {
  file_ << row.dump() << '\n' << std::flush;
  if (!file_ && !has_failed_) {
    has_failed_ = true;
    log_error("{}: cannot be written; training goes on without it", path_);
  }
  file_.clear();
}

}  // namespace lorikeet
