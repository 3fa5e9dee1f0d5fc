#pragma once
#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include <map>
#include <utility>

namespace lorikeet {

/// A tensor over elements offset .. of a flat buffer, with a version counter of its own: writing
/// the buffer while the tensor's graph waits is no error.
inline at::Tensor parameter_view(const at::Tensor& flat, int64_t offset, at::IntArrayRef shape) {
  return at::empty({0}, flat.options()).set_(flat.storage(), offset, shape);
}

inline bool has_memory(const at::Tensor& flat) { return flat.storage().nbytes() > 0; }

/// Memory for flat buffers that come and go: what one gives back the next of its size gets, so that
/// once every buffer has had some nothing is allocated any more. The tensors and their views stay,
/// and must not be read while they have none.
///
/// On a GPU the memory changes hands in the order in which the thread that computes asks: its
/// stream must have waited for what others have still to do with it.
class MemorySlots {
 public:
  /// Uninitialised memory; nothing happens where there is some.
  void give(const at::Tensor& flat) {
    if (has_memory(flat)) return;
    const c10::Storage& storage = flat.storage();
    const auto bytes = static_cast<size_t>(flat.numel()) * flat.element_size();
    if (auto slot = unused_.extract(bytes)) {
      storage.set_data_ptr_noswap(std::move(slot.mapped()));
    } else {
      const c10::OptionalDeviceGuard guard(
          flat.device());  // an allocator serves the current device
      storage.set_data_ptr_noswap(storage.allocator()->allocate(bytes));
    }
    storage.set_nbytes(bytes);
  }
  void take_back(const at::Tensor& flat) {
    if (!has_memory(flat)) return;
    const c10::Storage& storage = flat.storage();
    const size_t bytes = storage.nbytes();
    unused_.emplace(bytes, storage.set_data_ptr(c10::DataPtr(nullptr, flat.device())));
    storage.set_nbytes(0);
  }
  int64_t unused_bytes() const {
    int64_t bytes = 0;
    for (const auto& slot : unused_) bytes += static_cast<int64_t>(slot.first);
    return bytes;
  }
  /// Gives back to the allocator what nobody has.
  void trim() { unused_.clear(); }

 private:
  std::multimap<size_t, c10::DataPtr> unused_;  // by size
};

}  // namespace lorikeet
