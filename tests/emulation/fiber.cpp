#include "tests/emulation/fiber.h"

#include <cstdint>

#include "tests/emulation/sanitizer.h"

namespace lorikeet::emulation {

namespace {
constexpr size_t kStackBytes = 256 << 10;  // AddressSanitizer's frames are large
}

Fiber::Fiber() : stack_(new char[kStackBytes]) {}

void Fiber::start(const std::function<void()>& body) {
  body_ = &body;
  // A stack whose last user was given up still bears the marks of its frames.
  __asan_unpoison_memory_region(stack_.get(), kStackBytes);
  getcontext(&inside_);
  inside_.uc_stack.ss_sp = stack_.get();
  inside_.uc_stack.ss_size = kStackBytes;
  inside_.uc_link = &outside_;
  const auto self = reinterpret_cast<uintptr_t>(this);  // makecontext passes ints
  makecontext(&inside_, reinterpret_cast<void (*)()>(&Fiber::enter), 2,
              static_cast<unsigned>(self & 0xffffffffu), static_cast<unsigned>(self >> 32));
}

bool Fiber::holds(const void* address) const {
  const char* at = static_cast<const char*>(address);
  return at >= stack_.get() && at < stack_.get() + kStackBytes;
}

void Fiber::enter(unsigned low, unsigned high) {
  auto* self = reinterpret_cast<Fiber*>(uintptr_t{high} << 32 | low);
  auto& s = self->sanitizer_;
  __sanitizer_finish_switch_fiber(nullptr, &s.caller_stack, &s.caller_size);
  (*self->body_)();
  __sanitizer_start_switch_fiber(nullptr, s.caller_stack, s.caller_size);
}

void Fiber::resume() {
  void* mine = nullptr;
  __sanitizer_start_switch_fiber(&mine, stack_.get(), kStackBytes);
  swapcontext(&outside_, &inside_);
  __sanitizer_finish_switch_fiber(mine, nullptr, nullptr);
}

void Fiber::pause() {
  auto& s = sanitizer_;
  __sanitizer_start_switch_fiber(&s.fake_stack, s.caller_stack, s.caller_size);
  swapcontext(&inside_, &outside_);
  __sanitizer_finish_switch_fiber(s.fake_stack, &s.caller_stack, &s.caller_size);
}

}  // namespace lorikeet::emulation
