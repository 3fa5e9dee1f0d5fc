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
  TensorMemory()
      : counter_(std::make_shared<Counter>()),
        guard_(c10::DebugInfoKind::PROFILER_STATE, counter_) {}
  int64_t bytes() const { return counter_->bytes; }
  int64_t peak_bytes() const { return counter_->peak; }
  int64_t largest_bytes() const { return counter_->largest; }  ///< of one allocation

 private:
  struct Counter : c10::MemoryReportingInfoBase {
    void reportMemoryUsage(void*, int64_t size, size_t, size_t, c10::Device) override {
      raise(peak, bytes += size);
      raise(largest, size);
    }
    static void raise(std::atomic<int64_t>& highest, int64_t now) {
      int64_t seen = highest;
      while (now > seen && !highest.compare_exchange_weak(seen, now)) {
      }
    }
    bool memoryProfilingEnabled() const override { return true; }
    std::atomic<int64_t> bytes{0}, peak{0}, largest{0};
  };
  std::shared_ptr<Counter> counter_;
  c10::DebugInfoGuard guard_;
};

}  // namespace lorikeet
