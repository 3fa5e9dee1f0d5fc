#include "lorikeet/train/agreement.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <chrono>
#include <cmath>
#include <functional>
#include <thread>

#include "lorikeet/core/error.h"
#include "tests/train/ranks.h"

namespace lorikeet {
namespace {

/// What each of two replicas says.
std::vector<std::string> verdicts(const std::function<void(World&)>& judge) {
  LaunchEnvironment environment;
  environment.world_size = environment.local_world_size = 2;
  environment.master_port = train_testing::free_port();
  std::vector<std::string> said(2);
  std::vector<std::thread> threads;
  ::setenv("GLOO_SOCKET_IFNAME", "lo", 1);
  for (int rank = 0; rank < 2; ++rank) {
    threads.emplace_back([&, rank] {
      LaunchEnvironment mine = environment;
      mine.rank = mine.local_rank = rank;
      const auto world = World::meet(mine, {.replicate = 2}, torch::kCPU);
      try {
        judge(*world);
      } catch (const Error& error) {
        said[static_cast<size_t>(rank)] = error.what();
      }
      world->part(std::chrono::seconds(5));  // the host of the store goes last
    });
  }
  for (auto& thread : threads) thread.join();
  return said;
}

/// @param is_flipped  the last bit of one of rank 1's numbers
std::vector<std::string> verdicts_on_parameters(bool is_flipped) {
  return verdicts([&](World& world) {
    torch::Tensor weight = torch::ones({30, 40}).requires_grad_(true);
    const ShardedParameters parameters({{"unit", {{"weight", weight, 0}}}}, 0, world.mesh());
    if (is_flipped && world.rank() == 1) {
      const torch::NoGradGuard no_grad;
      weight.view(torch::kInt)[7][9].bitwise_xor_(1);
    }
    require_replicas_agree(parameters, world);
  });
}

std::vector<std::string> verdicts_on_gradients(const torch::Tensor& squares_PK) {
  return verdicts([&](World& world) {
    world.exchange().gather("both are there");
    require_same_gradients(squares_PK, world);
  });
}

TEST(Agreement, HoldsBetweenReplicasThatAreTheSame) {
  EXPECT_EQ(verdicts_on_parameters(false), (std::vector<std::string>{"", ""}));
}

TEST(Agreement, FindsOneFlippedBitOnAllRanks) {
  for (const std::string& said : verdicts_on_parameters(true)) {
    EXPECT_NE(said.find("parameters of rank 1 are no longer those of rank 0"), std::string::npos)
        << said;
  }
}

TEST(Agreement, FindsGradientsThatDiffer) {
  const auto world = World::single(torch::kCPU);
  const torch::Tensor same = torch::tensor({{1.5, 1e-20}, {1.5, 1e-20}}, torch::kDouble);
  EXPECT_NO_THROW(require_same_gradients(same.narrow(0, 0, 1), *world));
  for (const std::string& said : verdicts_on_gradients(same)) EXPECT_EQ(said, "");
  torch::Tensor nan = same.clone();
  nan.fill_(NAN);
  for (const std::string& said : verdicts_on_gradients(nan)) EXPECT_EQ(said, "");
  torch::Tensor other = same.clone();
  other[1][1] = 2e-20;
  for (const std::string& said : verdicts_on_gradients(other)) {
    EXPECT_NE(said.find("gradients of rank 1 are no longer those of rank 0"), std::string::npos)
        << said;
  }
}

}  // namespace
}  // namespace lorikeet
