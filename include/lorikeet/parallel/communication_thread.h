#pragma once
#include <c10/core/Device.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <mutex>
#include <thread>

namespace lorikeet {

/// Runs collectives beside the computation, one after another in the order in which they were
/// given, so that all ranks run them in the same order. On CUDA they go to a stream of their own.
class CommunicationThread {
 public:
  /// @param device  on which tensors lie
  explicit CommunicationThread(c10::Device device);
  ~CommunicationThread();  ///< what was not begun is dropped
  CommunicationThread(const CommunicationThread&) = delete;
  CommunicationThread& operator=(const CommunicationThread&) = delete;

  /// A job that was given to the thread; must be waited for.
  class Pending {
   public:
    Pending() = default;
    bool is_valid() const { return done_.valid(); }
    /// On the CPU: until the job has ended. On CUDA: the current stream waits, the caller only
    /// until it was enqueued. Rethrows what the job threw. Then it is no longer valid.
    void wait();

   private:
    friend class CommunicationThread;
    std::future<std::function<void()>> done_;  // what makes the waiting stream wait
  };

  /// The job sees all that was enqueued on the caller's current stream before.
  Pending run(std::function<void()> job);

 private:
  void work();

  c10::Device device_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::packaged_task<std::function<void()>()>> jobs_;
  bool is_stopped_ = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace lorikeet
