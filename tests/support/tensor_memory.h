#pragma once
#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <algorithm>
#include <atomic>
#include <memory>

namespace lorikeet {

/// Counts the bytes of CPU tensors that this thread, and those that work for it, allocate and free
/// while it lives.
class TensorMemory {
 public:
  /// @param watched  bytes: allocations of just this size are counted apart
  explicit TensorMemory(int64_t watched = 0)
      : counter_(std::make_shared<Counter>(watched)),
        guard_(c10::DebugInfoKind::PROFILER_STATE, counter_) {}
  int64_t bytes() const { return counter_->bytes; }
  int64_t peak_bytes() const { return counter_->peak; }
  int64_t num_watched() const { return counter_->num_watched; }

 private:
  struct Counter : c10::MemoryReportingInfoBase {
    explicit Counter(int64_t size) : watched(size) {}
    void reportMemoryUsage(void*, int64_t size, size_t, size_t, c10::Device) override {
      raise(peak, bytes += size);
      if (size > 0 && size == watched) ++num_watched;
    }
    static void raise(std::atomic<int64_t>& highest, int64_t now) {
      int64_t seen = highest;
      while (now > seen && !highest.compare_exchange_weak(seen, now)) {
      }
    }
    bool memoryProfilingEnabled() const override { return true; }
    const int64_t watched;
    std::atomic<int64_t> bytes{0}, peak{0}, num_watched{0};
  };
  std::shared_ptr<Counter> counter_;
  c10::DebugInfoGuard guard_;
};

}  // namespace lorikeet
