#pragma once
#include <cstdint>

namespace lorikeet::ops::cpu {

/// Asks for large pages in fresh memory of that many bytes, before it is written to. A gradient of
/// all experts is hundreds of megabytes: by pages of 4 KB, the system takes longer to hand them out
/// than we to fill them. Does nothing for small pieces, and where the system has no such request.
void prefer_large_pages(void* data, int64_t bytes);

}  // namespace lorikeet::ops::cpu
