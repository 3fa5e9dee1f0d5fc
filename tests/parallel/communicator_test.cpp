#include "lorikeet/parallel/communicator.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "lorikeet/core/error.h"
#include "lorikeet/parallel/store_exchange.h"
#include "tests/parallel/ranks.h"

namespace lorikeet {
namespace {

/// Different on each rank; sums of it depend on their order.
at::Tensor values_of(int64_t rank, int64_t size, at::ScalarType dtype) {
  const at::Tensor index = at::arange(size, at::kFloat);
  return at::sin(index * 12.9898 + static_cast<double>(rank) * 78.233)
      .mul_(std::pow(10.0, static_cast<double>(rank % 3)))
      .to(dtype);
}

at::Tensor sum_in_order(int64_t ranks, int64_t size, at::ScalarType dtype) {
  at::Tensor sum = values_of(0, size, dtype);
  for (int64_t rank = 1; rank < ranks; ++rank) sum.add_(values_of(rank, size, dtype));
  return sum;
}

TEST(Communicator, AddsInTheOrderOfTheRanks) {
  for (const int ranks : {2, 3, 4}) {
    run_ranks(ranks, [&](int rank, const auto& store) {
      const auto mesh = make_mesh(store, rank, {ranks, 1});
      for (const auto dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {
        for (const int64_t size : {1, 7, 1000, 20001}) {
          at::Tensor tensor = values_of(rank, size, dtype);
          mesh->world().all_reduce(tensor, "test");
          EXPECT_TRUE(at::equal(tensor, sum_in_order(ranks, size, dtype)))
              << dtype << " " << size << " over " << ranks;
        }
        const at::Tensor all = values_of(rank, 50 * ranks, dtype);
        at::Tensor mine = at::empty({50}, all.options());
        mesh->world().reduce_scatter(mine, all, "test");
        EXPECT_TRUE(
            at::equal(mine, sum_in_order(ranks, 50 * ranks, dtype).narrow(0, rank * 50, 50)));
      }
    });
  }
}

TEST(Communicator, GathersInPlaceAndBroadcasts) {
  run_ranks(3, [&](int rank, const auto& store) {
    const auto mesh = make_mesh(store, rank, {3, 1});
    at::Tensor all = at::zeros({3 * 5});
    at::Tensor mine = all.narrow(0, rank * 5, 5);
    mine.copy_(values_of(rank, 5, at::kFloat));
    mesh->world().all_gather(all, mine, "test");
    for (int64_t other = 0; other < 3; ++other) {
      EXPECT_TRUE(at::equal(all.narrow(0, other * 5, 5), values_of(other, 5, at::kFloat)));
    }
    at::Tensor given = values_of(rank, 9, at::kFloat);
    mesh->world().broadcast(given, "test");
    EXPECT_TRUE(at::equal(given, values_of(0, 9, at::kFloat)));
  });
}

TEST(Communicator, CountsWhatEachRankSends) {
  run_ranks(4, [&](int rank, const auto& store) {
    const auto mesh = make_mesh(store, rank, {1, 4});
    const at::Tensor all = at::ones({4000}), mine = at::ones({1000});
    mesh->gather().all_gather(all, mine, "a");
    mesh->reduce().reduce_scatter(mine, all, "b");
    mesh->world().all_reduce(at::ones({10000}), "c");
    const auto counts = mesh->monitor().counts();
    EXPECT_EQ(counts.at("gather/all_gather").bytes_sent, 3 * 4000);
    EXPECT_EQ(counts.at("reduce/reduce_scatter").bytes_sent, 3 * 4000);
    EXPECT_EQ(counts.at("world/all_reduce").bytes_sent, 2 * 3 * 2500 * 4);
    EXPECT_EQ(counts.at("world/all_reduce").calls, 1);
  });
}

TEST(Communicator, AGroupOfOneChangesNothing) {
  DeviceMesh mesh{c10::Device(c10::kCPU)};
  at::Tensor tensor = values_of(1, 10, at::kFloat);
  mesh.world().all_reduce(tensor, "test");
  EXPECT_TRUE(at::equal(tensor, values_of(1, 10, at::kFloat)));
  at::Tensor copy = at::empty({10});
  mesh.reduce().reduce_scatter(copy, tensor, "test");
  EXPECT_TRUE(at::equal(copy, tensor));
  EXPECT_TRUE(mesh.monitor().counts().empty());
}

TEST(DeviceMesh, ShardGroupsAreNeighbours) {
  run_ranks(4, [&](int rank, const auto& store) {
    const auto mesh = make_mesh(store, rank, {2, 2});
    at::Tensor sum = at::ones({1}) * std::pow(10.0, rank);
    at::Tensor other = sum.clone();
    mesh->reduce().all_reduce(sum, "test");
    EXPECT_EQ(sum.item<float>(), rank < 2 ? 11 : 1100);
    mesh->replicate().all_reduce(other, "test");
    EXPECT_EQ(other.item<float>(), rank % 2 == 0 ? 101 : 1010);
  });
}

TEST(StoreExchange, GathersAnyTextInManyRounds) {
  run_ranks(3, [&](int rank, const auto& store) {
    StoreExchange exchange(store, "test", rank, 3, std::chrono::seconds(20));
    for (int round = 0; round < 20; ++round) {
      const std::string mine = round == 0 ? "" : fmt::format("{}\n\0{}", rank, round);
      const auto all = exchange.gather(mine);
      ASSERT_EQ(all.size(), 3U);
      EXPECT_EQ(all[static_cast<size_t>(rank)], mine);
      EXPECT_EQ(all[1].empty(), round == 0);
    }
  });
}

TEST(StoreExchange, NamesTheRankThatDoesNotCome) {
  run_ranks(3, [&](int rank, const auto& store) {
    if (rank == 1) return;
    StoreExchange exchange(store, "test", rank, 3, std::chrono::milliseconds(200));
    try {
      exchange.gather("here");
      FAIL() << "rank 1 is missing";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kCommunication);
      EXPECT_NE(std::string(error.what()).find("waited for rank 1"), std::string::npos)
          << error.what();
    }
  });
}

}  // namespace
}  // namespace lorikeet
