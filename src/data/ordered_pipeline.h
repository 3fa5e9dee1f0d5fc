#pragma once
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

namespace lorikeet {

/// Works on items in several threads and hands out the results in the order of the items, so that
/// the outcome does not depend on the number of threads. A few items a thread are in flight at
/// most. Of several errors the first in the order of the items is rethrown.
template <class Item, class Result>
class OrderedPipeline {
 public:
  using Worker = std::function<Result(Item)>;

  /// @param produce      fills the next item, false at the end; called by one thread at a time
  /// @param make_worker  called once in every thread: what turns an item into its result
  OrderedPipeline(int64_t num_threads, std::function<bool(Item&)> produce,
                  std::function<Worker()> make_worker)
      : produce_(std::move(produce)), window_(4 * num_threads) {
    for (int64_t i = 0; i < num_threads; ++i) {
      threads_.emplace_back([this, make_worker] { run(make_worker); });
    }
  }
  ~OrderedPipeline() {
    {
      const std::lock_guard lock(mutex_);
      is_stopping_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) {
      thread.join();
    }
  }
  OrderedPipeline(const OrderedPipeline&) = delete;
  OrderedPipeline& operator=(const OrderedPipeline&) = delete;

  /// The next result in order; nothing at the end. For one calling thread.
  std::optional<Result> next() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] {
      return outcomes_.contains(num_consumed_) || (is_ended_ && num_consumed_ >= num_taken_);
    });
    const auto found = outcomes_.find(num_consumed_);
    if (found == outcomes_.end()) {
      return std::nullopt;
    }
    Outcome outcome = std::move(found->second);
    outcomes_.erase(found);
    ++num_consumed_;
    lock.unlock();
    changed_.notify_all();
    if (outcome.error) {
      std::rethrow_exception(outcome.error);
    }
    return std::move(outcome.result);
  }

 private:
  struct Outcome {
    std::optional<Result> result;
    std::exception_ptr error;
  };

  // Reserves the next number and reads its item; false when there are no more. Threads take turns,
  // so that numbers follow the order of the items.
  bool take(Item& item, int64_t& number) {
    const std::lock_guard turn(produce_mutex_);
    {
      std::unique_lock lock(mutex_);
      changed_.wait(
          lock, [&] { return is_stopping_ || is_ended_ || num_taken_ < num_consumed_ + window_; });
      if (is_stopping_ || is_ended_) {
        return false;
      }
      number = num_taken_;
    }
    std::exception_ptr error;
    bool has_item = false;
    try {
      has_item = produce_(item);
    } catch (...) {
      error = std::current_exception();
    }
    const std::lock_guard lock(mutex_);
    is_ended_ = !has_item;
    if (error) {
      outcomes_[number].error = error;
    }
    num_taken_ += has_item || error ? 1 : 0;
    return has_item;
  }

  void run(const std::function<Worker()>& make_worker) {
    const Worker work = make_worker();
    while (true) {
      Item item{};
      int64_t number = 0;
      if (!take(item, number)) {
        break;
      }
      Outcome outcome;
      try {
        outcome.result = work(std::move(item));
      } catch (...) {
        outcome.error = std::current_exception();
      }
      {
        const std::lock_guard lock(mutex_);
        outcomes_[number] = std::move(outcome);
      }
      changed_.notify_all();
    }
    changed_.notify_all();  // the consumer may wait for the end
  }

  std::function<bool(Item&)> produce_;
  int64_t window_;
  std::mutex produce_mutex_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<int64_t, Outcome> outcomes_;
  int64_t num_taken_ = 0;
  int64_t num_consumed_ = 0;
  bool is_ended_ = false;
  bool is_stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace lorikeet
