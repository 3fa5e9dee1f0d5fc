#pragma once
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "lorikeet/data/batch_loader.h"

namespace lorikeet {

/// Makes micro-batches ahead of their use, in one background thread, which is the loader's only
/// user while this object lives.
class Prefetcher {
 public:
  /// The sequence indices of micro-batch k = 0, 1, ...; an empty list ends the row. Called in the
  /// background thread.
  using Plan = std::function<std::vector<int64_t>(int64_t k)>;

  /// @param depth  micro-batches held ready, at least 1
  Prefetcher(BatchLoader& loader, Plan plan, int64_t depth);
  ~Prefetcher();  ///< stops the thread; what was made ahead is dropped
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  /// The next micro-batch in order; empty at the end. Rethrows what went wrong in the background,
  /// after the micro-batches made before.
  std::vector<Sequence> next();

 private:
  void run();

  BatchLoader& loader_;
  Plan plan_;
  size_t depth_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::vector<Sequence>> ready_;
  std::exception_ptr error_;
  bool is_stopping_ = false;  ///< asked by the destructor
  bool is_finished_ = false;  ///< the thread makes no more
  std::thread thread_;
};

}  // namespace lorikeet
