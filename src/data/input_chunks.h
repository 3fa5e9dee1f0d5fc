#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lorikeet/data/line_reader.h"

namespace lorikeet {

/// A place in the input: behind a line of a file.
struct InputPosition {
  int64_t file = 0;    ///< index among the inputs
  int64_t line = 0;    ///< lines read of it
  uint64_t chain = 0;  ///< hash of all lines from the beginning of the first file
};

/// Some consecutive lines of one file; blank ones are left out.
struct InputChunk {
  struct Line {
    size_t begin = 0;
    size_t size = 0;
    InputPosition after;
  };
  std::string path;
  std::string bytes;
  std::vector<Line> lines;
  int64_t stored_bytes_read = 0;  ///< of all inputs so far
};

/// Reads several files as one row of chunks.
class ChunkReader {
 public:
  explicit ChunkReader(std::vector<std::string> paths) : paths_(std::move(paths)) {}

  /// Goes on behind `position`. @throws Error(kData) where the lines before it are not those of
  /// then
  void skip_to(const InputPosition& position);
  bool next(InputChunk& chunk);
  int64_t stored_bytes_read() const;

 private:
  /// false at the end of the current file
  bool next_line(std::string_view& line);
  void close_file();

  std::vector<std::string> paths_;
  InputPosition position_;
  std::optional<LineReader> lines_;
  int64_t finished_bytes_ = 0;
};

/// Size and a hash of the file: of the whole up to 4 MiB, of 64 evenly spread blocks beyond.
struct InputFingerprint {
  uint64_t bytes = 0;
  uint64_t hash = 0;
};
InputFingerprint fingerprint_input(const std::string& path);

}  // namespace lorikeet
