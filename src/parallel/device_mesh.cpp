#include "lorikeet/parallel/device_mesh.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cstdlib>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <utility>

#include "lorikeet/core/error.h"
#include "lorikeet/core/first_line.h"

namespace lorikeet {

BackendFactory gloo_backend(std::chrono::milliseconds timeout, const std::string& interface) {
  std::string name = interface;
  if (const char* variable = std::getenv("GLOO_SOCKET_IFNAME"); name.empty() && variable) {
    name = variable;
  }
  return [timeout, name](const c10::intrusive_ptr<c10d::Store>& store, int rank, int size) {
    auto options = c10d::ProcessGroupGloo::Options::create(timeout);
    options->devices.push_back(name.empty()
                                   ? c10d::ProcessGroupGloo::createDefaultDevice()
                                   : c10d::ProcessGroupGloo::createDeviceForInterface(name));
    return c10::intrusive_ptr<c10d::Backend>(
        c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, size, options));
  };
}

DeviceMesh::DeviceMesh(c10::Device device)
    : device_(device), monitor_(std::make_shared<CollectiveMonitor>()) {}

DeviceMesh::DeviceMesh(const c10::intrusive_ptr<c10d::Store>& store, int rank, MeshShape shape,
                       c10::Device device, const BackendFactory& backend,
                       std::shared_ptr<CollectiveMonitor> monitor)
    : device_(device), rank_(rank), shape_(shape), monitor_(std::move(monitor)) {
  const auto group = [&](const std::string& name, const std::string& members, int64_t group_rank,
                         int64_t size) {
    if (size == 1) return Communicator();
    if (!backend) return Communicator(name, group_rank, size, *monitor_);
    const auto meeting =
        c10::make_intrusive<c10d::PrefixStore>(fmt::format("{}/{}", name, members), store);
    try {
      auto joined = backend(meeting, static_cast<int>(group_rank), static_cast<int>(size));
      if (device.is_cuda()) {
        joined->setBoundDeviceId(device);
        // NCCL connects at the first collective, where the flight recorder enters the group, too:
        // here one group after another, later from several threads (see Communicator).
        std::vector<at::Tensor> first = {at::zeros({1}, at::TensorOptions(device))};
        joined->allreduce(first)->wait();
      }
      return Communicator(name, std::move(joined), *monitor_);
    } catch (const Error&) {
      throw;
    } catch (const std::exception& failure) {
      throw Error(ExitCode::kCommunication,
                  fmt::format("rank {} cannot join the group {} of {} ranks: {}", rank, name, size,
                              first_line(failure.what())),
                  "do all ranks run, and do they reach each other? GLOO_SOCKET_IFNAME or "
                  "NCCL_SOCKET_IFNAME names the network interface");
    }
  };
  const std::string replica_name = std::to_string(replica());
  world_ = group("world", "all", rank, world_size());
  gather_ = group("gather", replica_name, shard_rank(), shape.shard);
  reduce_ = group("reduce", replica_name, shard_rank(), shape.shard);
  replicate_ = group("replicate", std::to_string(shard_rank()), replica(), shape.replicate);
}

}  // namespace lorikeet
