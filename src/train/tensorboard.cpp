// The event file format, by hand: TensorFlow's record_writer.h (framing), event.proto and
// summary.proto (messages; the numbers below are their field numbers).
#include "lorikeet/train/tensorboard.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "lorikeet/core/log.h"

namespace lorikeet {
namespace {

namespace fs = std::filesystem;

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

constexpr std::string_view kNamePrefix = "events.out.tfevents.";

/// CRC-32C (Castagnoli), one table look-up a byte: events are short.
uint32_t crc32c(std::string_view data) {
  static const auto kTable = [] {
    std::array<uint32_t, 256> table;
    for (uint32_t i = 0; i < table.size(); ++i) {
      table[i] = i;
      for (int bit = 0; bit < 8; ++bit) {
        table[i] = (table[i] >> 1) ^ ((table[i] & 1) != 0 ? 0x82f63b78u : 0u);
      }
    }
    return table;
  }();
  uint32_t crc = 0xffffffffu;
  for (const char c : data) crc = (crc >> 8) ^ kTable[(crc ^ static_cast<uint8_t>(c)) & 0xff];
  return ~crc;
}

template <class T>
void append_raw(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

/// Records hold a masked checksum, since a checksum of data that holds its checksum says little.
void append_masked_crc(std::string& out, std::string_view data) {
  append_raw(out, std::rotr(crc32c(data), 15) + 0xa282ead8u);
}

/// length, its checksum, data, its checksum
std::string framed(std::string_view data) {
  std::string record;
  append_raw(record, static_cast<uint64_t>(data.size()));
  append_masked_crc(record, std::string(record));
  record += data;
  append_masked_crc(record, data);
  return record;
}

/// The protocol buffers' wire format, as far as it is needed.
class Message {
 public:
  Message& integer(int field, int64_t value) {
    if (value == 0) return *this;  // the default is not written
    varint(static_cast<uint64_t>(field) << 3);
    varint(static_cast<uint64_t>(value));
    return *this;
  }
  Message& real64(int field, double value) {
    varint(static_cast<uint64_t>(field) << 3 | 1);
    append_raw(bytes_, value);
    return *this;
  }
  Message& real32(int field, float value) {
    varint(static_cast<uint64_t>(field) << 3 | 5);
    append_raw(bytes_, value);
    return *this;
  }
  /// Text, or a message within this one.
  Message& text(int field, std::string_view value) {
    varint(static_cast<uint64_t>(field) << 3 | 2);
    varint(value.size());
    bytes_ += value;
    return *this;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  void varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
  }

  std::string bytes_;
};

Message event(double wall_time, int64_t step) {
  return Message().real64(1, wall_time).integer(2, step);
}

double now() {
  const auto since_1970 = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double>(since_1970).count();
}

/// TensorBoard reads a folder's files in the order of their names, and a session's start must come
/// after all earlier sessions, also within one second and after a clock was set back.
int64_t next_file_time(const std::string& folder) {
  int64_t time = static_cast<int64_t>(now());
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (!name.starts_with(kNamePrefix)) continue;
    int64_t other = 0;
    std::from_chars(name.data() + kNamePrefix.size(), name.data() + name.size(), other);
    time = std::max(time, other + 1);
  }
  return time;
}

std::string host_name() {
  std::array<char, 256> name = {};
  if (::gethostname(name.data(), name.size() - 1) != 0 || name[0] == '\0') return "localhost";
  return name.data();
}

}  // namespace

TensorboardWriter::TensorboardWriter(const std::string& folder, int64_t first_step) {
  std::error_code ignored;  // open() says what is wrong
  fs::create_directories(folder, ignored);
  path_ = fmt::format("{}/{}{:010}.{}.{}", folder, kNamePrefix, next_file_time(folder), host_name(),
                      ::getpid());
  descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor_ < 0) {
    give_up(errno);
    return;
  }
  constexpr int64_t kSessionStart = 1;
  write_event(event(now(), 0).text(3, "brain.Event:2").bytes());
  write_event(
      event(now(), first_step).text(7, Message().integer(1, kSessionStart).bytes()).bytes());
}

TensorboardWriter::~TensorboardWriter() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void TensorboardWriter::scalar(std::string_view tag, double value, int64_t step, double wall_time) {
  const Message point = Message().text(1, tag).real32(2, static_cast<float>(value));
  const Message summary = Message().text(1, point.bytes());
  write_event(event(wall_time, step).text(5, summary.bytes()).bytes());
}

void TensorboardWriter::scalar(std::string_view tag, double value, int64_t step) {
  scalar(tag, value, step, now());
}

void TensorboardWriter::write_event(std::string_view event) {
  if (descriptor_ < 0) return;
  const std::string record = framed(event);
  for (size_t done = 0; done < record.size();) {
    const ssize_t written = ::write(descriptor_, record.data() + done, record.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return give_up(errno);
    done += static_cast<size_t>(written);
  }
}

void TensorboardWriter::give_up(int error) {
  log_warning("{}: cannot be written, there will be no more TensorBoard curves: {}", path_,
              std::generic_category().message(error));
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = -1;
}

}  // namespace lorikeet
