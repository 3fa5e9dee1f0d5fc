#include "lorikeet/parallel/world.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <thread>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <utility>

#include "lorikeet/core/error.h"
#include "lorikeet/core/hash.h"
#include "lorikeet/core/log.h"
#include "lorikeet/parallel/store_exchange.h"

namespace lorikeet {

namespace {

/// Ends the process: threads that wait for another rank cannot be asked to stop.
/// @param grace  the host of the meeting point stays so long, for the others to ask who is missing
[[noreturn]] void leave_stuck(const std::string& message, std::chrono::milliseconds grace) {
  log_error("{}", message);
  std::this_thread::sleep_for(grace);
  log_error("this process ends, so that all ranks can be started again from the newest checkpoint");
  std::_Exit(static_cast<int>(ExitCode::kCommunication));
}

}  // namespace

MeshShape mesh_shape(const ParallelConfig& config, int64_t world_size) {
  const bool is_auto = config.replicate == 0;
  if (world_size % config.shard == 0 &&
      (is_auto || config.replicate * config.shard == world_size)) {
    if (config.zero == 0) return {world_size, 1};
    return {world_size / config.shard, config.shard};
  }
  throw Error(
      ExitCode::kUsage,
      fmt::format("parallel.replicate: {} x parallel.shard: {} are not the {} ranks that "
                  "were launched",
                  is_auto ? "auto" : std::to_string(config.replicate), config.shard, world_size),
      fmt::format("launch {} ranks, or set parallel.replicate to auto and parallel.shard "
                  "to a divisor of {}",
                  std::max<int64_t>(1, config.replicate) * config.shard, world_size));
}

std::shared_ptr<World> World::single(c10::Device device) {
  std::shared_ptr<World> world(new World);
  world->setup_ = world->save_ = std::make_shared<OneRank>();
  world->mesh_ = std::make_unique<DeviceMesh>(device);
  return world;
}

std::shared_ptr<World> World::meet(const LaunchEnvironment& environment,
                                   const ParallelConfig& config, c10::Device device) {
  const MeshShape shape = mesh_shape(config, environment.world_size);
  if (environment.world_size == 1) return single(device);
  const auto timeout = std::chrono::milliseconds(static_cast<int64_t>(config.timeout.value * 1000));
  const int rank = environment.rank, size = environment.world_size;
  std::shared_ptr<World> world(new World);
  world->is_host_ = rank == 0 && !environment.agent_hosts_store;
  // A connection each for the threads that wait on it.
  const auto connect = [=](bool is_host) -> c10::intrusive_ptr<c10d::Store> {
    // Ranks that were started again must not find what those before have left.
    return c10::make_intrusive<c10d::PrefixStore>(
        fmt::format("lorikeet/{}", environment.restart_count),
        open_tcp_store(environment.master_address, environment.master_port, is_host, size,
                       timeout));
  };
  if (world->is_host_) world->store_ = connect(/*is_host=*/true);
  // Before anything else, since already a connection may hang: with a host that is stopped.
  world->watchdog_ = std::make_unique<Watchdog>(
      *world->monitor_, [connect] { return connect(/*is_host=*/false); }, rank, size, timeout,
      [grace = world->is_host_ ? timeout / 2 : std::chrono::milliseconds(0)](
          const std::string& message) { leave_stuck(message, grace); });
  if (!world->is_host_) world->store_ = connect(/*is_host=*/false);
  world->zero_ = shape.shard > 1 ? static_cast<int>(config.zero) : 0;
  world->setup_ = std::make_shared<StoreExchange>(world->store_, "setup", rank, size, timeout);
  // Writing a checkpoint may take long; but not for ever, if the one that writes has died.
  world->save_ = std::make_shared<StoreExchange>(
      connect(/*is_host=*/false), "save", rank, size,
      std::max<std::chrono::milliseconds>(timeout, std::chrono::minutes(30)), timeout);
  world->setup_->gather("here");  // says who is missing, before the groups wait for them
  // The watchdog speaks first: it can name the rank.
  const auto backend_timeout = 2 * timeout + std::chrono::minutes(1);
  const CollectiveMonitor::Scope scope(*world->monitor_, "start", "meeting", "the ranks", 0);
  world->mesh_ = std::make_unique<DeviceMesh>(
      world->store_, rank, shape, device,
      device.is_cuda() ? nccl_backend(backend_timeout) : gloo_backend(backend_timeout),
      world->monitor_);
  return world;
}

void World::part(std::chrono::milliseconds limit) noexcept {
  const auto store = std::move(store_);  // which leaves none
  if (!store) return;
  watchdog_.reset();
  const auto key = [](int rank) { return fmt::format("left/{}", rank); };
  try {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    store->set(key(rank()), std::vector<uint8_t>{1});
    for (int other = 1; is_host_ && other < size(); ++other) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
          deadline - std::chrono::steady_clock::now());
      store->wait({key(other)}, std::max(left, std::chrono::milliseconds(1)));
    }
  } catch (const std::exception&) {  // who has died does not say goodbye
  }
}

void World::require_same(const std::string& what, const std::string& text) {
  const auto all = setup_->gather(to_hex(hash64(text)));
  for (size_t other = 1; other < all.size(); ++other) {
    if (all[other] == all[0]) continue;
    throw Error(ExitCode::kUsage, fmt::format("{} of rank {} is not that of rank 0", what, other),
                "all ranks must be given the same; is a node's copy out of date?");
  }
}

}  // namespace lorikeet
