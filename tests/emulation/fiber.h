#pragma once
#include <ucontext.h>

#include <cstddef>
#include <functional>
#include <memory>

namespace lorikeet::emulation {

/// A stack and where it stopped. Switching tells AddressSanitizer, where it is on.
class Fiber {
 public:
  Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// Lets the next resume() call body, which must outlive the call, on the fiber's stack.
  void start(const std::function<void()>& body);
  /// From outside: runs the fiber until it pauses or its body returns.
  void resume();
  /// From inside: back to whoever resumed.
  void pause();
  /// Whether the address is on its stack.
  bool holds(const void* address) const;

 private:
  static void enter(unsigned low, unsigned high);

  struct AddressSanitizerState {
    void* fake_stack = nullptr;
    const void* caller_stack = nullptr;
    size_t caller_size = 0;
  };
  std::unique_ptr<char[]> stack_;
  ucontext_t inside_, outside_;
  const std::function<void()>* body_ = nullptr;
  AddressSanitizerState sanitizer_;
};

}  // namespace lorikeet::emulation
