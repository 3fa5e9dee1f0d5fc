#include "lorikeet/data/permutation.h"

#include <algorithm>
#include <bit>

namespace lorikeet {

Permutation::Permutation(uint64_t size, uint64_t key) : size_(size) {
  const int bits = std::bit_width(size > 0 ? size - 1 : 0);
  half_bits_ = std::max(3, (bits + 1) / 2);  // tiny halves would leave many permutations out
  mask_ = (uint64_t{1} << half_bits_) - 1;
  for (int round = 0; round < kRounds; ++round) {
    round_keys_[round] = derive_key({key, static_cast<uint64_t>(round)});
  }
}

uint64_t Permutation::operator()(uint64_t i) const {
  do {
    uint64_t left = i >> half_bits_;
    uint64_t right = i & mask_;
    for (const uint64_t key : round_keys_) {
      const uint64_t next = left ^ (mix64(right ^ key) & mask_);
      left = right;
      right = next;
    }
    i = (left << half_bits_) | right;
  } while (i >= size_);
  return i;
}

}  // namespace lorikeet
