// P ranks, n elements a rank.
#include "lorikeet/parallel/communicator.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <mutex>

#include "lorikeet/core/error.h"
#include "lorikeet/core/first_line.h"

namespace lorikeet {

namespace {

/// sum_n += parts_Pn[1] + ..., from the first rank to the last.
void add_in_order(const at::Tensor& sum_n, const at::Tensor& parts_Pn) {
  sum_n.copy_(parts_Pn[0]);
  for (int64_t rank = 1; rank < parts_Pn.size(0); ++rank) sum_n.add_(parts_Pn[rank]);
}

}  // namespace

Communicator::Communicator() = default;

Communicator::Communicator(std::string name, c10::intrusive_ptr<c10d::Backend> backend,
                           CollectiveMonitor& monitor)
    : name_(std::move(name)),
      backend_(std::move(backend)),
      monitor_(&monitor),
      rank_(backend_->getRank()),
      size_(backend_->getSize()) {}

Communicator::Communicator(std::string name, int64_t rank, int64_t size, CollectiveMonitor& monitor)
    : name_(std::move(name)), monitor_(&monitor), rank_(rank), size_(size) {}

c10::intrusive_ptr<c10d::Work> Communicator::begin_collective(
    const std::function<c10::intrusive_ptr<c10d::Work>()>& begin) const {
  if (!has_ordered_sums()) return begin();
  // c10d's flight recorder is one for all groups of a process, and enters a group at its first
  // collective without a lock (pytorch/pytorch#179449): two threads that begin at once have ended
  // the process. Nothing waits for other ranks in here.
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  return begin();
}

void Communicator::finish(const std::string& what,
                          const std::function<c10::intrusive_ptr<c10d::Work>()>& begin) const {
  if (!backend_) return;
  try {
    begin_collective(begin)->wait();
  } catch (const std::exception& failure) {
    const std::string cause = monitor_->explain_failure();
    throw Error(ExitCode::kCommunication,
                fmt::format("rank {} of group {}: {} failed: {}{}", rank_, name_, what,
                            first_line(failure.what()), cause.empty() ? "" : "; before: " + cause),
                "another rank has died or is unreachable; its own log says why. The run goes on "
                "from its newest checkpoint when it is started again");
  }
}

void Communicator::all_gather(const at::Tensor& all_Pn, const at::Tensor& mine_n,
                              const std::string& label) {
  const at::NoGradGuard no_grad;
  if (size_ == 1) {
    if (all_Pn.data_ptr() != mine_n.data_ptr()) all_Pn.copy_(mine_n);
    return;
  }
  const CollectiveMonitor::Scope scope(*monitor_, name_, "all_gather", label,
                                       (size_ - 1) * static_cast<int64_t>(mine_n.nbytes()));
  at::Tensor output = all_Pn, input = mine_n;
  finish("all_gather of " + label, [&] { return backend_->_allgather_base(output, input); });
}

void Communicator::reduce_scatter(const at::Tensor& mine_n, const at::Tensor& all_Pn,
                                  const std::string& label) {
  const at::NoGradGuard no_grad;
  if (size_ == 1) {
    if (all_Pn.data_ptr() != mine_n.data_ptr()) mine_n.copy_(all_Pn);
    return;
  }
  const CollectiveMonitor::Scope scope(*monitor_, name_, "reduce_scatter", label,
                                       (size_ - 1) * static_cast<int64_t>(mine_n.nbytes()));
  at::Tensor input = all_Pn;
  const std::string what = "reduce_scatter of " + label;
  if (!has_ordered_sums()) {
    at::Tensor output = mine_n;
    return finish(what, [&] { return backend_->_reduce_scatter_base(output, input); });
  }
  at::Tensor parts = at::empty_like(input);
  std::vector<int64_t> equal;
  finish(what, [&] { return backend_->alltoall_base(parts, input, equal, equal); });
  add_in_order(mine_n.view({-1}), parts.view({size_, -1}));
}

void Communicator::all_reduce(const at::Tensor& tensor, const std::string& label) {
  const at::NoGradGuard no_grad;
  if (size_ == 1) return;
  const std::string what = "all_reduce of " + label;
  const auto bytes = static_cast<int64_t>(tensor.nbytes());
  if (!has_ordered_sums()) {
    const CollectiveMonitor::Scope scope(*monitor_, name_, "all_reduce", label,
                                         2 * bytes * (size_ - 1) / size_);
    std::vector<at::Tensor> tensors = {tensor};
    return finish(what, [&] { return backend_->allreduce(tensors); });
  }
  at::Tensor flat = tensor.view({-1});
  if (bytes <= kSmallBytes) {
    const CollectiveMonitor::Scope scope(*monitor_, name_, "all_reduce", label,
                                         (size_ - 1) * bytes);
    at::Tensor parts = at::empty({size_ * flat.numel()}, flat.options());
    finish(what, [&] { return backend_->_allgather_base(parts, flat); });
    return add_in_order(flat, parts.view({size_, -1}));
  }
  const int64_t part = (flat.numel() + size_ - 1) / size_;
  at::Tensor padded = flat;
  if (part * size_ != flat.numel()) {
    padded = at::zeros({part * size_}, flat.options());
    padded.narrow(0, 0, flat.numel()).copy_(flat);
  }
  const CollectiveMonitor::Scope scope(
      *monitor_, name_, "all_reduce", label,
      2 * (size_ - 1) * part * static_cast<int64_t>(flat.element_size()));
  at::Tensor parts = at::empty_like(padded);
  std::vector<int64_t> equal;
  finish(what, [&] { return backend_->alltoall_base(parts, padded, equal, equal); });
  at::Tensor mine = padded.narrow(0, rank_ * part, part);
  add_in_order(mine, parts.view({size_, part}));
  finish(what, [&] { return backend_->_allgather_base(padded, mine); });
  if (!padded.is_same(flat)) flat.copy_(padded.narrow(0, 0, flat.numel()));
}

void Communicator::broadcast(const at::Tensor& tensor, const std::string& label) {
  const at::NoGradGuard no_grad;
  if (size_ == 1) return;
  const CollectiveMonitor::Scope scope(*monitor_, name_, "broadcast", label,
                                       rank_ == 0 ? static_cast<int64_t>(tensor.nbytes()) : 0);
  std::vector<at::Tensor> tensors = {tensor};
  finish("broadcast of " + label, [&] { return backend_->broadcast(tensors); });
}

void Communicator::barrier(const std::string& label) {
  if (size_ == 1) return;
  const CollectiveMonitor::Scope scope(*monitor_, name_, "barrier", label, 0);
  finish("barrier " + label, [&] { return backend_->barrier(); });
}

}  // namespace lorikeet
