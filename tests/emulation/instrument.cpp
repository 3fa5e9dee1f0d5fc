// The runtime behind g++'s -fsanitize=thread for files that hold kernels: ThreadSanitizer's own
// library is not linked, and every load and store comes to the emulator.
#include <cstddef>

#include "tests/emulation/emulator.h"

using lorikeet::emulation::touch;

#define LORIKEET_TOUCH(n)                                        \
  void __tsan_read##n(void* p) { touch(p, n, false); }           \
  void __tsan_write##n(void* p) { touch(p, n, true); }           \
  void __tsan_unaligned_read##n(void* p) { touch(p, n, false); } \
  void __tsan_unaligned_write##n(void* p) { touch(p, n, true); }

extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void*, void*) {}
void __tsan_vptr_read(void*) {}
void __tsan_read_range(void* p, size_t n) { touch(p, n, false); }
void __tsan_write_range(void* p, size_t n) { touch(p, n, true); }
LORIKEET_TOUCH(1)
LORIKEET_TOUCH(2)
LORIKEET_TOUCH(4)
LORIKEET_TOUCH(8)
LORIKEET_TOUCH(16)
}
