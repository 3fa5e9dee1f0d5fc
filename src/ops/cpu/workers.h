#pragma once
#include <ATen/Parallel.h>
#include <c10/core/alignment.h>
#include <c10/core/CPUAllocator.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <vector>

#include "blocks.h"
#include "pages.h"

namespace lorikeet::ops::cpu {

/// Uninitialised memory on cache-line boundaries, from where tensors have theirs: whoever counts
/// them counts it too.
class Buffer {
 public:
  explicit Buffer(int64_t bytes)
      : data_(c10::GetCPUAllocator()->allocate(static_cast<size_t>(bytes))), bytes_(bytes) {
    prefer_large_pages(data_.get(), bytes);
  }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_.get());
  }
  int64_t bytes() const { return bytes_; }

 private:
  static_assert(c10::gAlignment % 64 == 0);
  c10::DataPtr data_;
  int64_t bytes_;
};

/// Hands out pieces of a thread's scratch memory, each on a cache line.
class Scratch {
 public:
  explicit Scratch(const Buffer& buffer) : next_(buffer.as<char>()) {}
  template <class T>
  T* take(int64_t count) {
    T* const piece = reinterpret_cast<T*>(next_);
    next_ += bytes<T>(count);
    return piece;
  }
  template <class T>
  static int64_t bytes(int64_t count) {
    return round_up(count * static_cast<int64_t>(sizeof(T)), 64);
  }

 private:
  char* next_;
};

/// Runs tasks on all threads, each with scratch memory of its own. Tasks are taken as threads
/// become free, so whatever a task computes must not depend on who runs it.
class Workers {
 public:
  explicit Workers(int64_t scratch_bytes) {
    for (int i = 0; i < std::max(1, at::get_num_threads()); ++i)
      scratch_.emplace_back(scratch_bytes);
  }

  /// @param task called with (task number, Scratch) @param leave called by each thread at its end
  template <class Task, class Leave>
  void run(int64_t num_tasks, const Task& task, const Leave& leave) const {
    std::atomic<int64_t> next{0};
    const auto threads = static_cast<int64_t>(scratch_.size());
    at::parallel_for(0, std::min(threads, num_tasks), 1, [&](int64_t begin, int64_t) {
      for (int64_t i = next++; i < num_tasks; i = next++) task(i, Scratch(scratch_[begin]));
      leave();
    });
  }

  int64_t bytes() const {
    int64_t sum = 0;
    for (const Buffer& buffer : scratch_) sum += buffer.bytes();
    return sum;
  }

 private:
  std::vector<Buffer> scratch_;
};

}  // namespace lorikeet::ops::cpu
