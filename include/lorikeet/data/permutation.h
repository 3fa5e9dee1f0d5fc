#pragma once
#include <cstdint>
#include <initializer_list>

namespace lorikeet {

/// The finaliser of splitmix64: a bijection on 64 bits that looks random.
constexpr uint64_t mix64(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

/// One key from several numbers; their order matters.
constexpr uint64_t derive_key(std::initializer_list<uint64_t> parts) {
  uint64_t key = 0;
  for (const uint64_t part : parts) {
    key = mix64(key + 0x9e3779b97f4a7c15ULL + mix64(part));
  }
  return key;
}

/// A random-looking permutation of 0 .. size-1 that takes no memory: eight Feistel rounds on the
/// next power of four, repeated until the value falls below `size`. Any element can be asked for at
/// once, which is what lets a run resume anywhere without replay.
class Permutation {
 public:
  Permutation(uint64_t size, uint64_t key);
  uint64_t size() const { return size_; }
  /// @param i below size()
  uint64_t operator()(uint64_t i) const;

 private:
  static constexpr int kRounds = 8;
  uint64_t size_;
  int half_bits_;
  uint64_t mask_;
  uint64_t round_keys_[kRounds];
};

}  // namespace lorikeet
