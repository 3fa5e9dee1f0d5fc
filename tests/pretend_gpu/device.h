#pragma once
#include <c10/core/Allocator.h>

namespace lorikeet::pretend_gpu {

c10::Allocator* device_memory();
/// Host memory that a copy need not wait for.
c10::Allocator* pinned_memory();
bool is_pinned(const void* address);

}  // namespace lorikeet::pretend_gpu
