#include "pages.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace lorikeet::ops::cpu {

#if defined(__linux__)
void prefer_large_pages(void* data, int64_t bytes) {
  constexpr uintptr_t kLarge = 2 << 20;
  const auto begin = (reinterpret_cast<uintptr_t>(data) + kLarge - 1) / kLarge * kLarge;
  const auto end =
      (reinterpret_cast<uintptr_t>(data) + static_cast<uintptr_t>(bytes)) / kLarge * kLarge;
  // A wish: if it is refused, the memory is as good, only slower.
  if (end > begin) (void)madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
}
#else
void prefer_large_pages(void*, int64_t) {}
#endif

}  // namespace lorikeet::ops::cpu
