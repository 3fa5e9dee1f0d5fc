#pragma once
#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace lorikeet {

/// A tensor over elements offset .. of a flat buffer, with a version counter of its own: writing
/// the buffer while the tensor's graph waits is no error.
inline at::Tensor parameter_view(const at::Tensor& flat, int64_t offset, at::IntArrayRef shape) {
  return at::empty({0}, flat.options()).set_(flat.storage(), offset, shape);
}

/// Gives the memory of all views back; the tensors stay, and must not be read. What the current
/// stream of a GPU has still to do with the memory is done before it is given to another.
inline void free_storage(const at::Tensor& flat) {
  const c10::Storage& storage = flat.storage();
  if (storage.nbytes() == 0) return;
  const c10::OptionalDeviceGuard guard(flat.device());
  if (flat.is_cuda()) {
    const c10::impl::VirtualGuardImpl device(c10::kCUDA);
    device.recordDataPtrOnStream(storage.data_ptr(), device.getStream(flat.device()));
  }
  storage.set_data_ptr_noswap(storage.allocator()->allocate(0));
  storage.set_nbytes(0);
}

/// Memory for a freed flat buffer, uninitialised; nothing where it has some.
inline void allocate_storage(const at::Tensor& flat) {
  const c10::Storage& storage = flat.storage();
  const auto bytes = static_cast<size_t>(flat.numel()) * flat.element_size();
  if (storage.nbytes() == bytes) return;
  const c10::OptionalDeviceGuard guard(flat.device());  // an allocator serves the current device
  storage.set_data_ptr_noswap(storage.allocator()->allocate(bytes));
  storage.set_nbytes(bytes);
}

}  // namespace lorikeet
