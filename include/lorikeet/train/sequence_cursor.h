#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace lorikeet {

/// The place in the data: the next sequence to take, and ranges that are never to be taken (data
/// that made the loss spike). Copies are independent.
class SequenceCursor {
 public:
  using Range = std::pair<int64_t, int64_t>;  ///< [first, last)

  int64_t position() const { return position_; }
  void seek(int64_t position) { position_ = position; }
  /// The next n sequences that are not skipped; moves position() behind the last.
  std::vector<int64_t> take(int64_t n);
  /// What take() would give after n others.
  int64_t peek(int64_t n) const;

  void skip(const Range& range);
  const std::vector<Range>& skipped() const { return skipped_; }

 private:
  int64_t position_ = 0;
  std::vector<Range>
      skipped_;  // sorted; may overlap: one a rollback, so that rollbacks can be counted
};

/// RUN/skipped_data.json: kept apart from checkpoints, so that a run which rolled back skips the
/// same data when it is resumed from the checkpoint it had rolled back to.
std::vector<SequenceCursor::Range> read_skipped(const std::string& path);
void write_skipped(const std::string& path, const std::vector<SequenceCursor::Range>& ranges);

}  // namespace lorikeet
