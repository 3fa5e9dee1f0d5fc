#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace lorikeet {

class ByteSource;

/// A longer line is taken for a file that is no JSONL at all.
inline constexpr size_t kMaxLineBytes = size_t{256} << 20;

/// The lines of a text file: plain, gzip or Zstandard. Memory is bounded by the longest line.
class LineReader {
 public:
  /// @throws Error(kData) naming the file where it is missing, damaged or cut short
  explicit LineReader(const std::string& path, size_t max_line_bytes = kMaxLineBytes);
  ~LineReader();
  LineReader(LineReader&&) noexcept;
  LineReader& operator=(LineReader&&) noexcept;

  /// The next line without its end (\n or \r\n) and without a byte order mark; valid until the next
  /// call. @return false at the end of the file
  bool next(std::string_view& line);
  /// Of the line last returned, from 1.
  int64_t line_number() const { return line_number_; }
  const std::string& path() const { return path_; }
  /// How much of the file, as stored, was read: for progress.
  int64_t stored_bytes_read() const;

 private:
  void require_length(size_t bytes) const;

  std::string path_;
  size_t max_line_bytes_;
  std::unique_ptr<ByteSource> source_;
  std::vector<char> buffer_;
  size_t begin_ = 0;  ///< of what was not returned yet
  size_t end_ = 0;
  int64_t line_number_ = 0;
  bool is_at_end_ = false;
};

}  // namespace lorikeet
