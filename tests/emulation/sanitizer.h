#pragma once
#include <cstddef>

// AddressSanitizer's functions, or nothing in their place. The macros of its header do nothing in a
// file that is itself compiled without the sanitizer, as the emulator's files are.
#if defined(LORIKEET_ADDRESS_SANITIZER)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#else
inline void __asan_poison_memory_region(const void*, size_t) {}
inline void __asan_unpoison_memory_region(const void*, size_t) {}
inline void __sanitizer_start_switch_fiber(void**, const void*, size_t) {}
inline void __sanitizer_finish_switch_fiber(void*, const void**, size_t*) {}
#endif
