#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace lorikeet {

/// The bytes of a file in order, decompressed where it is gzip or Zstandard (several members or
/// frames one behind the other too). Which one it is, the first bytes say.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  /// Fills up to `size` bytes. @return how many; 0 only at the end
  /// @throws Error(kData) naming the file where it cannot be read, is damaged or cut short
  virtual size_t read(char* out, size_t size) = 0;
  /// Bytes of the file, as stored, that were read so far.
  virtual int64_t stored_bytes_read() const = 0;
};

std::unique_ptr<ByteSource> open_byte_source(const std::string& path);

}  // namespace lorikeet
