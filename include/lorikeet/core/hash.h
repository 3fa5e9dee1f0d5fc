#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

struct XXH3_state_s;

namespace lorikeet {

// XXH3 (xxHash): checksums and fingerprints. Not cryptographic. The values are the same on every
// machine.

struct Hash128 {
  uint64_t high = 0;
  uint64_t low = 0;
  bool operator==(const Hash128&) const = default;
};

uint64_t hash64(const void* data, size_t size);
uint64_t hash64(std::string_view text);
Hash128 hash128(const void* data, size_t size);
Hash128 hash128(std::string_view text);

/// 16 and 32 lower-case digits, most significant first: what `xxhsum -H3` and `xxhsum -H2` print.
std::string to_hex(uint64_t hash);
std::string to_hex(const Hash128& hash);

namespace detail {
struct HashStateDeleter {
  void operator()(XXH3_state_s* state) const;
};
}  // namespace detail

/// Streaming form: the digest is that of all bytes given so far, however they were cut.
class Hasher64 {
 public:
  Hasher64();
  void update(const void* data, size_t size);
  void update(std::string_view text) { update(text.data(), text.size()); }
  uint64_t digest() const;

 private:
  std::unique_ptr<XXH3_state_s, detail::HashStateDeleter> state_;
};

class Hasher128 {
 public:
  Hasher128();
  void update(const void* data, size_t size);
  void update(std::string_view text) { update(text.data(), text.size()); }
  Hash128 digest() const;

 private:
  std::unique_ptr<XXH3_state_s, detail::HashStateDeleter> state_;
};

}  // namespace lorikeet
