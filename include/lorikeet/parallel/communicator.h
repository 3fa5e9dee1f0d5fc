#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <vector>

#include "lorikeet/parallel/collective_monitor.h"

namespace lorikeet {

/// A group of ranks that exchange tensors. Every call waits until this rank's part is done, and
/// every rank of the group makes the same calls in the same order; what is to overlap runs on a
/// CommunicationThread. A group of one does nothing.
///
/// Sums add in the order of the ranks, in the tensors' own dtype, so that they have the same bits
/// on all ranks and from run to run: Gloo's own sums add in an order that depends on the number of
/// ranks, and its reduce-scatter sends twice what it must. NCCL's collectives are used as they are.
/// Not thread-safe.
class Communicator {
 public:
  /// A group of one.
  Communicator();
  /// @param backend  ranks and size are the group's
  /// @param monitor  must outlive this object
  Communicator(std::string name, c10::intrusive_ptr<c10d::Backend> backend,
               CollectiveMonitor& monitor);
  /// A rehearsal: counts what would be sent, sends nothing; what would be received is undefined.
  Communicator(std::string name, int64_t rank, int64_t size, CollectiveMonitor& monitor);

  int64_t rank() const { return rank_; }
  int64_t size() const { return size_; }
  const std::string& name() const { return name_; }

  /// @param mine_n  contiguous; may lie at its place in `all_Pn`
  /// @param all_Pn  [size() * n], contiguous: the ranks' parts in order
  /// Sends (P - 1) * n elements.
  void all_gather(const at::Tensor& all_Pn, const at::Tensor& mine_n, const std::string& label);
  /// mine_n = sum over ranks of the rank()-th part of their all_Pn. Sends (P - 1) / P of all_Pn.
  void reduce_scatter(const at::Tensor& mine_n, const at::Tensor& all_Pn, const std::string& label);
  /// In place, any contiguous tensor. Small ones are gathered and added: (P - 1) * n elements;
  /// others are reduce-scattered and gathered: 2 (P - 1) / P of n, padded to a multiple of P.
  void all_reduce(const at::Tensor& tensor, const std::string& label);
  /// The tensor of rank 0 on all. Rank 0 sends at most n * ceil(log2 P), counted as n there.
  void broadcast(const at::Tensor& tensor, const std::string& label);
  void barrier(const std::string& label);

  /// Below this size all_reduce gathers whole tensors: one exchange instead of two.
  static constexpr int64_t kSmallBytes = 16 * 1024;

 private:
  bool has_ordered_sums() const { return !backend_ || backend_->getBackendName() != "nccl"; }
  c10::intrusive_ptr<c10d::Work> begin_collective(
      const std::function<c10::intrusive_ptr<c10d::Work>()>& begin) const;
  /// Starts a collective of the backend and waits for it.
  void finish(const std::string& what,
              const std::function<c10::intrusive_ptr<c10d::Work>()>& begin) const;

  std::string name_ = "self";
  c10::intrusive_ptr<c10d::Backend> backend_;
  CollectiveMonitor* monitor_ = nullptr;
  int64_t rank_ = 0, size_ = 1;
};

}  // namespace lorikeet
