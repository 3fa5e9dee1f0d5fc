#include "lorikeet/core/hash.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <new>

namespace lorikeet {

namespace {
XXH3_state_s* make_state() {
  XXH3_state_s* state = XXH3_createState();
  if (state == nullptr) throw std::bad_alloc();
  return state;
}
}  // namespace

uint64_t hash64(const void* data, size_t size) { return XXH3_64bits(data, size); }
uint64_t hash64(std::string_view text) { return hash64(text.data(), text.size()); }

Hash128 hash128(const void* data, size_t size) {
  const XXH128_hash_t hash = XXH3_128bits(data, size);
  return {hash.high64, hash.low64};
}
Hash128 hash128(std::string_view text) { return hash128(text.data(), text.size()); }

std::string to_hex(uint64_t hash) { return fmt::format("{:016x}", hash); }
std::string to_hex(const Hash128& hash) {
  return fmt::format("{:016x}{:016x}", hash.high, hash.low);
}

void detail::HashStateDeleter::operator()(XXH3_state_s* state) const { XXH3_freeState(state); }

Hasher64::Hasher64() : state_(make_state()) { XXH3_64bits_reset(state_.get()); }
void Hasher64::update(const void* data, size_t size) {
  XXH3_64bits_update(state_.get(), data, size);
}
uint64_t Hasher64::digest() const { return XXH3_64bits_digest(state_.get()); }

Hasher128::Hasher128() : state_(make_state()) { XXH3_128bits_reset(state_.get()); }
void Hasher128::update(const void* data, size_t size) {
  XXH3_128bits_update(state_.get(), data, size);
}
Hash128 Hasher128::digest() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(state_.get());
  return {hash.high64, hash.low64};
}

}  // namespace lorikeet
