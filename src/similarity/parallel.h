#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace lorikeet {

/// Calls work(i, thread) for every i below `count`, in `num_threads` threads; 0: all cores. Of the
/// errors one is rethrown, when all threads have ended.
template <class Work>
void parallel_for_each(size_t count, int64_t num_threads, const Work& work) {
  if (num_threads <= 0) {
    num_threads = std::max(1u, std::thread::hardware_concurrency());
  }
  num_threads =
      std::clamp<int64_t>(num_threads, 1, std::max<int64_t>(1, static_cast<int64_t>(count)));
  std::atomic<size_t> next = 0;
  std::exception_ptr error;
  std::mutex mutex;
  const auto run = [&](size_t thread) {
    try {
      for (size_t i = next++; i < count; i = next++) {
        work(i, thread);
      }
    } catch (...) {
      const std::lock_guard lock(mutex);
      error = std::current_exception();
      next = count;
    }
  };
  {
    std::vector<std::jthread> threads;
    for (size_t thread = 1; thread < static_cast<size_t>(num_threads); ++thread) {
      threads.emplace_back(run, thread);
    }
    run(0);
  }
  if (error) {
    std::rethrow_exception(error);
  }
}

/// How many threads parallel_for_each takes at most.
inline size_t thread_count(int64_t num_threads) {
  return num_threads > 0 ? static_cast<size_t>(num_threads)
                         : std::max(1u, std::thread::hardware_concurrency());
}

}  // namespace lorikeet
