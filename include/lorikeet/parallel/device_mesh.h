#pragma once
#include <c10/core/Device.h>
#include <c10/util/intrusive_ptr.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "lorikeet/parallel/collective_monitor.h"
#include "lorikeet/parallel/communicator.h"
#include "lorikeet/parallel/exchange.h"

namespace lorikeet {

/// Makes one group's backend: its ranks meet in `store`, which no other group uses.
using BackendFactory = std::function<c10::intrusive_ptr<c10d::Backend>(
    const c10::intrusive_ptr<c10d::Store>& store, int rank, int size)>;

/// Gloo between CPU processes. @param interface  network interface, such as eth0; empty:
/// GLOO_SOCKET_IFNAME, or the one of this host's name, or loopback
BackendFactory gloo_backend(std::chrono::milliseconds timeout, const std::string& interface = "");
/// NCCL, from liblorikeet_cuda.so. @throws Error(kUsage) where that is not there
BackendFactory nccl_backend(std::chrono::milliseconds timeout);

/// How ranks divide the work: `shard` neighbouring ranks hold one copy of the optimizer's state
/// (and of gradients and parameters, by ZeRO's stage) together, `replicate` copies there are.
/// rank = replica * shard + shard rank, so that a shard group lies inside a node.
struct MeshShape {
  int64_t replicate = 1;
  int64_t shard = 1;
};

/// The ranks of one run and their groups. Each group is used by one thread at a time.
class DeviceMesh {
 public:
  /// One process.
  explicit DeviceMesh(c10::Device device);
  /// Blocks until all ranks have come. @param store  must outlive the mesh
  /// @param backend  null: a rehearsal, in which one process plays any rank of any world and sends
  ///     nothing (c10d's own fake group cannot be included without Python's headers)
  /// @param monitor  sees the collectives of all groups
  DeviceMesh(const c10::intrusive_ptr<c10d::Store>& store, int rank, MeshShape shape,
             c10::Device device, const BackendFactory& backend,
             std::shared_ptr<CollectiveMonitor> monitor = std::make_shared<CollectiveMonitor>());

  int64_t rank() const { return rank_; }
  int64_t world_size() const { return shape_.replicate * shape_.shard; }
  const MeshShape& shape() const { return shape_; }
  int64_t replica() const { return rank_ / shape_.shard; }
  int64_t shard_rank() const { return rank_ % shape_.shard; }
  c10::Device device() const { return device_; }

  Communicator& world() { return world_; }
  Communicator& gather() { return gather_; }        ///< shard group: parameters
  Communicator& reduce() { return reduce_; }        ///< shard group: gradients
  Communicator& replicate() { return replicate_; }  ///< the same shard's ranks in all replicas
  CollectiveMonitor& monitor() { return *monitor_; }

 private:
  c10::Device device_;
  int64_t rank_ = 0;
  MeshShape shape_;
  std::shared_ptr<CollectiveMonitor> monitor_;
  Communicator world_, gather_, reduce_, replicate_;
};

}  // namespace lorikeet
