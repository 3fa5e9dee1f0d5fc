#pragma once
#include <c10/core/Device.h>

#include <chrono>
#include <memory>
#include <string>

#include "lorikeet/config/run_config.h"
#include "lorikeet/parallel/device_mesh.h"
#include "lorikeet/parallel/exchange.h"
#include "lorikeet/parallel/launch.h"
#include "lorikeet/parallel/watchdog.h"

namespace lorikeet {

/// How `world_size` ranks are laid out; without sharding (zero: 0, or shard: 1) all are replicas.
/// @throws Error(kUsage) where the configuration's product is not the number of ranks
MeshShape mesh_shape(const ParallelConfig& config, int64_t world_size);

/// The ranks of a run: their groups, their exchanges of texts, and a watchdog over both.
class World {
 public:
  /// One process.
  static std::shared_ptr<World> single(c10::Device device);
  /// Meets the other ranks. Gloo on the CPU, NCCL on CUDA.
  /// @throws Error(kCommunication) where one does not come in time
  static std::shared_ptr<World> meet(const LaunchEnvironment& environment,
                                     const ParallelConfig& config, c10::Device device);

  int rank() const { return setup_->rank(); }
  int size() const { return setup_->size(); }
  bool is_first() const { return rank() == 0; }
  c10::Device device() const { return mesh_->device(); }
  DeviceMesh& mesh() { return *mesh_; }
  /// ZeRO stage; 0 where nothing is sharded.
  int zero() const { return zero_; }
  Exchange& exchange() { return *setup_; }  ///< of the main thread
  std::shared_ptr<Exchange> save_exchange() { return save_; }

  /// @throws Error(kUsage) naming the first rank whose text is not rank 0's. @param what  "the
  /// configuration"
  void require_same(const std::string& what, const std::string& text);

  /// The last thing that a rank does with the others: rank 0 keeps the meeting point open until all
  /// have come here, or for `limit`. One that leaves earlier takes the store from those that still
  /// read what it has told them. The world is of no use afterwards.
  void part(std::chrono::milliseconds limit) noexcept;

 private:
  World() = default;

  c10::intrusive_ptr<c10d::Store> store_;
  std::shared_ptr<Exchange> setup_, save_;
  std::shared_ptr<CollectiveMonitor> monitor_ = std::make_shared<CollectiveMonitor>();
  std::unique_ptr<DeviceMesh> mesh_;
  std::unique_ptr<Watchdog> watchdog_;  // last: it is the first to go
  bool is_host_ = false;                ///< of the store
  int zero_ = 0;
};

}  // namespace lorikeet
