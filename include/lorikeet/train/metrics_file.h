#pragma once
#include <cstdint>
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
  ~MetricsFile();
  MetricsFile(const MetricsFile&) = delete;
  MetricsFile& operator=(const MetricsFile&) = delete;

  /// Appends a whole row or nothing. Numbers that are not finite become null. A row that cannot be
  /// written (full disk) is lost, which is logged once, and does not end training.
  void write(const nlohmann::json& row);

 private:
  bool append(const std::string& line) const;

  std::string path_;
  int file_ = -1;
  int64_t rows_lost_ = 0;  ///< since the last one that was written
};

}  // namespace lorikeet
