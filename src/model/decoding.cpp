// B = 1 sequence, K key-value heads, L new tokens, H head size.
#include "lorikeet/model/decoding.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace lorikeet {

namespace {

constexpr int64_t kFirstCapacity = 256;

void grow(at::Tensor& kept, const at::Tensor& like_BKLH, int64_t length, int64_t capacity) {
  std::vector<int64_t> shape = like_BKLH.sizes().vec();
  shape[2] = capacity;
  at::Tensor larger = at::empty(shape, like_BKLH.options());
  if (length > 0) larger.narrow(2, 0, length).copy_(kept.narrow(2, 0, length));
  kept = std::move(larger);
}

}  // namespace

void KeyValueCache::append(const at::Tensor& k_BKLH, const at::Tensor& v_BKLH) {
  const int64_t added = k_BKLH.size(2);
  if (length_ + added > capacity()) {
    const int64_t larger = std::max({length_ + added, 2 * capacity(), kFirstCapacity});
    grow(keys_, k_BKLH, length_, larger);
    grow(values_, v_BKLH, length_, larger);
  }
  keys_.narrow(2, length_, added).copy_(k_BKLH);
  values_.narrow(2, length_, added).copy_(v_BKLH);
  length_ += added;
}

}  // namespace lorikeet
