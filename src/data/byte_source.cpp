#include "byte_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <cerrno>
#include <cstring>
#include <string_view>
#include <vector>

#include "lorikeet/core/error.h"

namespace lorikeet {

namespace {

constexpr size_t kChunkBytes = 256 * 1024;

[[noreturn]] void fail(const std::string& path, const std::string& what, const std::string& hint) {
  throw Error(ExitCode::kData, fmt::format("{}: {}", path, what), hint);
}

constexpr char kCopyAgain[] = "copy or download the file again";

// The file itself, through a buffer of one chunk.
class StoredFile {
 public:
  explicit StoredFile(const std::string& path)
      : path_(path), descriptor_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)), buffer_(kChunkBytes) {
    struct stat status {};
    if (descriptor_ < 0 || ::fstat(descriptor_, &status) != 0) {
      const std::string reason = std::strerror(errno);
      close();
      fail(path, fmt::format("cannot open: {}", reason), "check the path");
    }
    if (S_ISDIR(status.st_mode)) {
      close();
      fail(path, "is a folder, not a file", "name its files: " + path + "/*.jsonl.gz");
    }
  }
  ~StoredFile() { close(); }
  StoredFile(const StoredFile&) = delete;
  StoredFile& operator=(const StoredFile&) = delete;

  // Makes sure that there are bytes left in the buffer; false at the end of the file.
  bool refill() {
    if (begin_ < end_) {
      return true;
    }
    ssize_t count = 0;
    do {
      count = ::read(descriptor_, buffer_.data(), buffer_.size());
    } while (count < 0 && errno == EINTR);
    if (count < 0) {
      fail(path_, fmt::format("cannot read: {}", std::strerror(errno)), kCopyAgain);
    }
    begin_ = 0;
    end_ = static_cast<size_t>(count);
    bytes_read_ += count;
    return count > 0;
  }
  std::string_view available() const { return {buffer_.data() + begin_, end_ - begin_}; }
  void consume(size_t count) { begin_ += count; }
  const std::string& path() const { return path_; }
  int64_t bytes_read() const { return bytes_read_; }

 private:
  void close() {
    if (descriptor_ >= 0) {
      ::close(descriptor_);
    }
  }

  std::string path_;
  int descriptor_;
  std::vector<char> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
  int64_t bytes_read_ = 0;
};

class PlainSource : public ByteSource {
 public:
  explicit PlainSource(std::unique_ptr<StoredFile> file) : file_(std::move(file)) {}
  size_t read(char* out, size_t size) override {
    if (!file_->refill()) {
      return 0;
    }
    const std::string_view bytes = file_->available().substr(0, size);
    std::memcpy(out, bytes.data(), bytes.size());
    file_->consume(bytes.size());
    return bytes.size();
  }
  int64_t stored_bytes_read() const override { return file_->bytes_read(); }

 private:
  std::unique_ptr<StoredFile> file_;
};

class GzipSource : public ByteSource {
 public:
  explicit GzipSource(std::unique_ptr<StoredFile> file) : file_(std::move(file)) {
    if (inflateInit2(&stream_, 15 + 16) != Z_OK) {  // 16: gzip framing, checksums verified
      throw std::bad_alloc();
    }
  }
  ~GzipSource() override { inflateEnd(&stream_); }

  size_t read(char* out, size_t size) override {
    size_t written = 0;
    while (written == 0) {
      if (!file_->refill()) {
        if (!is_between_members_) {
          fail(file_->path(), "gzip data ends too early: the file was cut short", kCopyAgain);
        }
        return 0;
      }
      is_between_members_ = false;
      const std::string_view in = file_->available();
      stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in.data()));
      stream_.avail_in = static_cast<uInt>(in.size());
      stream_.next_out = reinterpret_cast<Bytef*>(out);
      stream_.avail_out = static_cast<uInt>(size);
      const int result = inflate(&stream_, Z_NO_FLUSH);
      file_->consume(in.size() - stream_.avail_in);
      written = size - stream_.avail_out;
      if (result == Z_STREAM_END) {
        is_between_members_ = true;
        inflateReset(&stream_);
      } else if (result != Z_OK && result != Z_BUF_ERROR) {
        fail(file_->path(),
             fmt::format("gzip data is damaged: {}", stream_.msg ? stream_.msg : "unknown error"),
             kCopyAgain);
      }
    }
    return written;
  }
  int64_t stored_bytes_read() const override { return file_->bytes_read(); }

 private:
  std::unique_ptr<StoredFile> file_;
  z_stream stream_{};
  bool is_between_members_ = true;
};

class ZstdSource : public ByteSource {
 public:
  explicit ZstdSource(std::unique_ptr<StoredFile> file)
      : file_(std::move(file)), stream_(ZSTD_createDStream()) {
    if (!stream_) {
      throw std::bad_alloc();
    }
  }

  size_t read(char* out, size_t size) override {
    ZSTD_outBuffer output{out, size, 0};
    while (output.pos == 0) {
      // What the decoder still holds comes out without more input.
      const bool has_input = file_->refill();
      const std::string_view in = file_->available();
      ZSTD_inBuffer input{in.data(), in.size(), 0};
      if (!has_input && is_between_frames_) {
        return 0;
      }
      const size_t result = ZSTD_decompressStream(stream_.get(), &output, &input);
      if (ZSTD_isError(result)) {
        fail(file_->path(), fmt::format("zstd data is damaged: {}", ZSTD_getErrorName(result)),
             kCopyAgain);
      }
      file_->consume(input.pos);
      is_between_frames_ = result == 0;
      if (!has_input && output.pos == 0 && !is_between_frames_) {
        fail(file_->path(), "zstd data ends too early: the file was cut short", kCopyAgain);
      }
    }
    return output.pos;
  }
  int64_t stored_bytes_read() const override { return file_->bytes_read(); }

 private:
  struct Deleter {
    void operator()(ZSTD_DStream* stream) const { ZSTD_freeDStream(stream); }
  };
  std::unique_ptr<StoredFile> file_;
  std::unique_ptr<ZSTD_DStream, Deleter> stream_;
  bool is_between_frames_ = true;
};

}  // namespace

std::unique_ptr<ByteSource> open_byte_source(const std::string& path) {
  auto file = std::make_unique<StoredFile>(path);
  file->refill();
  const std::string_view head = file->available();
  if (head.starts_with("\x1f\x8b")) {
    return std::make_unique<GzipSource>(std::move(file));
  }
  if (head.starts_with("\x28\xb5\x2f\xfd")) {
    return std::make_unique<ZstdSource>(std::move(file));
  }
  for (const auto& [ending, name] : {std::pair(".gz", "gzip"), std::pair(".zst", "zstd")}) {
    if (path.ends_with(ending)) {
      fail(path, fmt::format("does not begin as {} data does", name),
           head.empty() ? "the file is empty: " + std::string(kCopyAgain)
                        : "rename it if it is plain text");
    }
  }
  return std::make_unique<PlainSource>(std::move(file));
}

}  // namespace lorikeet
