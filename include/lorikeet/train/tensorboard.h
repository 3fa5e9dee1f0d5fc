#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace lorikeet {

/// Curves for TensorBoard: one event file a session in `folder` (TFRecord framing, tensorflow.Event
/// messages). TensorBoard merges the files of a folder. Values are in the file when scalar()
/// returns. A failed write is a warning, once, and ends the writing: curves are no reason to stop
/// training (metrics.jsonl has the same values).
class TensorboardWriter {
 public:
  /// @param first_step  the first step that this session may log. A resumed run gives the one after
  ///   its checkpoint's: points of earlier sessions from there on vanish from the curves.
  explicit TensorboardWriter(const std::string& folder, int64_t first_step = 0);
  ~TensorboardWriter();
  TensorboardWriter(const TensorboardWriter&) = delete;
  TensorboardWriter& operator=(const TensorboardWriter&) = delete;

  /// @param tag        "train/loss": what stands before the slash groups charts
  /// @param wall_time  seconds since 1970
  void scalar(std::string_view tag, double value, int64_t step, double wall_time);
  /// The same, now.
  void scalar(std::string_view tag, double value, int64_t step);

  const std::string& path() const { return path_; }

 private:
  void write_event(std::string_view event);
  void give_up(int error);

  std::string path_;
  int descriptor_ = -1;
};

}  // namespace lorikeet
