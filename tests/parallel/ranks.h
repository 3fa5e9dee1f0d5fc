#pragma once
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <vector>

#include "lorikeet/parallel/device_mesh.h"

namespace lorikeet {

/// The ranks of a world as threads of this process, over Gloo on the loopback interface. What a
/// rank throws is a failure of the test.
inline void run_ranks(
    int world_size,
    const std::function<void(int rank, const c10::intrusive_ptr<c10d::Store>&)>& body) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  std::vector<std::string> failures(static_cast<size_t>(world_size));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < world_size; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        body(rank, store);
      } catch (const std::exception& failure) {
        failures[static_cast<size_t>(rank)] = failure.what();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  for (int rank = 0; rank < world_size; ++rank) {
    EXPECT_EQ(failures[static_cast<size_t>(rank)], "") << "rank " << rank;
  }
}

inline std::unique_ptr<DeviceMesh> make_mesh(const c10::intrusive_ptr<c10d::Store>& store, int rank,
                                             MeshShape shape) {
  return std::make_unique<DeviceMesh>(store, rank, shape, c10::Device(c10::kCPU),
                                      gloo_backend(std::chrono::seconds(20), "lo"));
}

}  // namespace lorikeet
