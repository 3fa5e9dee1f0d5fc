#include "lorikeet/data/line_reader.h"

#include <algorithm>
#include <cstring>

#include "byte_source.h"
#include "lorikeet/core/error.h"

namespace lorikeet {

namespace {
constexpr size_t kFirstBufferBytes = 1 << 20;
constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
}  // namespace

LineReader::LineReader(const std::string& path, size_t max_line_bytes)
    : path_(path),
      max_line_bytes_(max_line_bytes),
      source_(open_byte_source(path)),
      buffer_(std::min(kFirstBufferBytes, max_line_bytes + 2)) {}

LineReader::~LineReader() = default;
LineReader::LineReader(LineReader&&) noexcept = default;
LineReader& LineReader::operator=(LineReader&&) noexcept = default;

int64_t LineReader::stored_bytes_read() const { return source_->stored_bytes_read(); }

void LineReader::require_length(size_t bytes) const {
  if (bytes > max_line_bytes_) {
    throw Error(ExitCode::kData,
                fmt::format("{}:{}: the line is longer than {} bytes", path_, line_number_ + 1,
                            max_line_bytes_),
                "JSONL holds one document a line: cut the document in parts");
  }
}

bool LineReader::next(std::string_view& line) {
  size_t searched = begin_;  // no line end before here
  size_t line_end = 0;
  while (true) {
    const void* found = std::memchr(buffer_.data() + searched, '\n', end_ - searched);
    if (found) {
      line_end = static_cast<size_t>(static_cast<const char*>(found) - buffer_.data());
      break;
    }
    if (is_at_end_) {
      if (begin_ == end_) {
        return false;
      }
      line_end = end_;
      break;
    }
    searched = end_;
    if (end_ == buffer_.size()) {
      std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
      searched = end_ = end_ - begin_;
      begin_ = 0;
      require_length(end_);
      if (end_ * 2 > buffer_.size()) {
        buffer_.resize(std::min(buffer_.size() * 2, max_line_bytes_ + 2));
      }
    }
    const size_t count = source_->read(buffer_.data() + end_, buffer_.size() - end_);
    is_at_end_ = count == 0;
    end_ += count;
  }
  require_length(line_end - begin_);
  line = {buffer_.data() + begin_, line_end - begin_};
  begin_ = std::min(line_end + 1, end_);
  ++line_number_;
  if (line_number_ == 1 && line.starts_with(kByteOrderMark)) {
    line.remove_prefix(kByteOrderMark.size());
  }
  if (line.ends_with('\r')) {
    line.remove_suffix(1);
  }
  return true;
}

}  // namespace lorikeet
