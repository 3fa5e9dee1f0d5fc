#pragma once
#include <cstdint>
#include <fstream>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace lorikeet {

/// What a run's metrics.jsonl says of the validation after `step`: loss by domain. Null where it
/// was not run, or the file is gone.
nlohmann::json read_validation(const std::string& path, int64_t step);

/// RUN/metrics.jsonl: one object a line, each with `step`.
class MetricsFile {
 public:
  /// Opens for appending, after cutting away lines of steps after `last_step` and a line that was
  /// not finished: a resumed run writes them again.
  MetricsFile(const std::string& path, int64_t last_step);

  /// Appends and flushes. Numbers that are not finite become null.
  /// A failed write is logged once and does not end training.
  void write(const nlohmann::json& row);

 private:
  std::string path_;
  std::ofstream file_;
  bool has_failed_ = false;
};

}  // namespace lorikeet
