#include "lorikeet/parallel/communication_thread.h"

#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/core/Stream.h>
#include <c10/core/StreamGuard.h>
#include <omp.h>

#include <memory>
#include <optional>

namespace lorikeet {

CommunicationThread::CommunicationThread(c10::Device device)
    : device_(device), thread_([this] { work(); }) {}

CommunicationThread::~CommunicationThread() {
  {
    const std::lock_guard lock(mutex_);
    is_stopped_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void CommunicationThread::Pending::wait() {
  if (done_.valid()) done_.get()();
}

CommunicationThread::Pending CommunicationThread::run(std::function<void()> job) {
  std::shared_ptr<c10::Event> before;
  if (device_.is_cuda()) {
    before = std::make_shared<c10::Event>(device_.type());
    before->record(c10::impl::VirtualGuardImpl(device_.type()).getStream(device_));
  }
  std::packaged_task<std::function<void()>()> task(
      [job = std::move(job), before, device = device_]() -> std::function<void()> {
        if (!before) {
          job();
          return [] {};
        }
        const c10::impl::VirtualGuardImpl guard(device.type());
        const c10::Stream side = guard.getStream(device);
        before->block(side);
        job();
        const auto after = std::make_shared<c10::Event>(device.type());
        after->record(side);
        return [after, device] {
          after->block(c10::impl::VirtualGuardImpl(device.type()).getStream(device));
        };
      });
  Pending pending;
  pending.done_ = task.get_future();
  {
    const std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(task));
  }
  changed_.notify_one();
  return pending;
}

void CommunicationThread::work() {
  omp_set_num_threads(1);  // a second team of threads would take the cores from the computation
  std::optional<c10::StreamGuard> side;
  if (device_.is_cuda()) {
    side.emplace(c10::impl::VirtualGuardImpl(device_.type())
                     .getStreamFromGlobalPool(device_, /*isHighPriority=*/true));
  }
  while (true) {
    std::packaged_task<std::function<void()>()> task;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return is_stopped_ || !jobs_.empty(); });
      if (is_stopped_) return;
      task = std::move(jobs_.front());
      jobs_.pop_front();
    }
    task();
  }
}

}  // namespace lorikeet
