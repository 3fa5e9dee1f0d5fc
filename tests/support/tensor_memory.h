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

 private:
  struct Counter : c10::MemoryReportingInfoBase {
    void reportMemoryUsage(void*, int64_t size, size_t, size_t, c10::Device) override {
      const int64_t now = bytes += size;
      int64_t seen = peak;
      while (now > seen && !peak.compare_exchange_weak(seen, now)) {
      }
    }
    bool memoryProfilingEnabled() const override { return true; }
    std::atomic<int64_t> bytes{0}, peak{0};
  };
  std::shared_ptr<Counter> counter_;
  c10::DebugInfoGuard guard_;
};

}  // namespace lorikeet
