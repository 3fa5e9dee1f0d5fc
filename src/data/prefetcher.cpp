#include "lorikeet/data/prefetcher.h"

#include <algorithm>

namespace lorikeet {

Prefetcher::Prefetcher(BatchLoader& loader, Plan plan, int64_t depth)
    : loader_(loader),
      plan_(std::move(plan)),
      depth_(static_cast<size_t>(std::max<int64_t>(1, depth))),
      thread_([this] { run(); }) {}

Prefetcher::~Prefetcher() {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Prefetcher::run() {
  std::exception_ptr error;
  try {
    for (int64_t k = 0;; ++k) {
      const std::vector<int64_t> indices = plan_(k);
      if (indices.empty()) {
        break;
      }
      std::vector<Sequence> batch;
      for (const int64_t index : indices) {
        batch.push_back(loader_.get(index));
      }
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return is_stopping_ || ready_.size() < depth_; });
      if (is_stopping_) {
        return;
      }
      ready_.push_back(std::move(batch));
      lock.unlock();
      changed_.notify_all();
    }
  } catch (...) {
    error = std::current_exception();
  }
  {
    const std::lock_guard lock(mutex_);
    error_ = error;
    is_finished_ = true;
  }
  changed_.notify_all();
}

std::vector<Sequence> Prefetcher::next() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return is_finished_ || !ready_.empty(); });
  if (!ready_.empty()) {
    std::vector<Sequence> batch = std::move(ready_.front());
    ready_.pop_front();
    lock.unlock();
    changed_.notify_all();
    return batch;
  }
  if (error_) {
    std::rethrow_exception(error_);
  }
  return {};
}

}  // namespace lorikeet
