#include "lorikeet/train/sequence_cursor.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "lorikeet/core/error.h"
#include "lorikeet/core/file.h"

namespace lorikeet {

std::vector<int64_t> SequenceCursor::take(int64_t n) {
  std::vector<int64_t> indices;
  indices.reserve(n);
  auto range = skipped_.begin();
  while (static_cast<int64_t>(indices.size()) < n) {
    if (range != skipped_.end() && position_ >= range->first) {
      position_ = std::max(position_, range->second);
      ++range;
    } else {
      indices.push_back(position_++);
    }
  }
  return indices;
}

int64_t SequenceCursor::peek(int64_t n) const {
  int64_t found = position_ + n, behind = position_;
  for (const auto& [first, last] : skipped_) {
    const int64_t from = std::max(first, behind);
    if (from > found) break;
    found += std::max<int64_t>(0, last - from);
    behind = std::max(behind, last);
  }
  return found;
}

void SequenceCursor::skip(const Range& range) {
  skipped_.insert(std::upper_bound(skipped_.begin(), skipped_.end(), range), range);
}

std::vector<SequenceCursor::Range> read_skipped(const std::string& path) {
  if (!std::filesystem::exists(path)) return {};
  try {
    return nlohmann::json::parse(read_text_file(path, ExitCode::kCheckpoint))
        .get<std::vector<SequenceCursor::Range>>();
  } catch (const nlohmann::json::exception&) {
    throw Error(ExitCode::kCheckpoint,
                fmt::format("{}: must be a list of [first, last) sequence numbers", path),
                "restore the file: without it the run would train on data it had to skip");
  }
}

void write_skipped(const std::string& path, const std::vector<SequenceCursor::Range>& ranges) {
  write_file_atomically(path, nlohmann::json(ranges).dump() + "\n", ExitCode::kCheckpoint);
}

}  // namespace lorikeet
