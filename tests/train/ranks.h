// Runs of several ranks as child processes on loopback.
#pragma once
#include <netinet/in.h>
#include <sys/socket.h>

#include <deque>
#include <map>

#include "tests/train/program.h"

namespace lorikeet::train_testing {

/// A port that nobody listens at now.
inline int free_port() {
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  ::bind(socket, reinterpret_cast<sockaddr*>(&address), size);
  ::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size);
  ::close(socket);
  return ntohs(address.sin_port);
}

/// How a run's ranks share the work.
struct Layout {
  int replicate = 1, shard = 1, zero = 0;
  int size() const { return replicate * shard; }
  Settings settings() const {
    return {fmt::format("parallel.replicate={}", replicate),
            fmt::format("parallel.shard={}", shard), fmt::format("parallel.zero={}", zero),
            "parallel.timeout=60s"};
  }
};

class RanksProgram : public TrainProgram {
 protected:
  /// A thread, a sequence a micro-batch: the sum over ranks is then that of accumulation.
  static Settings small_steps() {
    return {"train.micro_batch=1", "train.batch_sequences=4", "train.steps=12",
            "checkpoint.every=4steps"};
  }

  /// @param of_rank  more settings, for some ranks
  std::deque<Child> start_ranks(const std::string& name, const Layout& layout,
                                const Settings& settings,
                                const std::function<Settings(int)>& of_rank = nullptr,
                                const std::vector<std::string>& options = {}) {
    const int port = free_port();
    std::deque<Child> ranks;
    for (int rank = 0; rank < layout.size(); ++rank) {
      const auto folder = working_folders_.find(rank);
      std::vector<std::string> arguments = {"/usr/bin/env",
                                            "-C",
                                            folder == working_folders_.end() ? "." : folder->second,
                                            fmt::format("RANK={}", rank),
                                            fmt::format("LOCAL_RANK={}", rank),
                                            fmt::format("WORLD_SIZE={}", layout.size()),
                                            fmt::format("LOCAL_WORLD_SIZE={}", layout.size()),
                                            "MASTER_ADDR=127.0.0.1",
                                            fmt::format("MASTER_PORT={}", port),
                                            "GLOO_SOCKET_IFNAME=lo",
                                            program(),
                                            command_,
                                            config_};
      Settings all = Settings{"name=" + name, "output=" + folder_.path()} + layout.settings();
      all = all + settings + (of_rank ? of_rank(rank) : Settings{});
      for (const std::string& setting : all) {
        arguments.insert(arguments.end(), {"--set", setting});
      }
      arguments.insert(arguments.end(), options.begin(), options.end());
      ranks.emplace_back(arguments, folder_ / fmt::format("{}_{}", name, rank));
    }
    return ranks;
  }
  void finish_ranks(const std::string& name, const Layout& layout, const Settings& settings) {
    for (Child& rank : start_ranks(name, layout, settings)) {
      const Ended ended = rank.wait();
      ASSERT_EQ(ended.code, 0) << ended.err;
    }
    EXPECT_EQ(status(name).at("state"), "finished");
  }
  /// SIGTERM to one rank after some step; all must leave a checkpoint and end with 75 before a
  /// cluster that wants its nodes back loses patience.
  void stop_ranks(const std::string& name, const Layout& layout, const Settings& settings,
                  int64_t step, int stopped_rank) {
    std::deque<Child> ranks = start_ranks(name, layout, settings);
    ASSERT_TRUE(ranks[0].wait_until([&] { return logged_step(name) >= step; }));
    const auto asked = std::chrono::steady_clock::now();
    ranks[stopped_rank].send(SIGTERM);
    for (Child& rank : ranks) {
      const Ended ended = rank.wait();
      EXPECT_EQ(ended.code, 75) << ended.err;
    }
    EXPECT_LT(std::chrono::steady_clock::now() - asked, std::chrono::seconds(30));
    const std::string last = fmt::format("step_{:08}", logged_step(name));
    EXPECT_EQ(checkpoints(name).back(), last) << "nothing is lost";
    EXPECT_EQ(status(name).at("state"), "preempted");
  }

  /// Rows without what belongs to the layout.
  std::vector<Json> course_of_any(const std::string& name) const {
    std::vector<Json> rows = course(name);
    for (Json& row : rows) {
      row.erase("slowest_rank");
      row.erase("rank_seconds");
      row.erase("bytes_sent");
      if (row.contains("routing")) row["routing"].erase("expert_distance");  // not with ZeRO-3
      // Sums over segments, which the ranks add in another grouping.
      if (row.contains("routing")) row["routing"].erase("entropy");
      if (row.contains("routing")) row["routing"].erase("mean_weight");
    }
    return rows;
  }
  void expect_same_course(const std::string& a, const std::string& b) const {
    expect_same(course_of_any(a), course_of_any(b));
    EXPECT_TRUE(model_bytes(a) == model_bytes(b)) << "the weights differ";
  }
  /// @param bound  nats
  void expect_near_course(const std::string& a, const std::string& b, double bound) const {
    const std::vector<double> one = losses(a), other = losses(b);
    ASSERT_EQ(one.size(), other.size());
    for (size_t i = 0; i < one.size(); ++i)
      EXPECT_NEAR(one[i], other[i], bound) << "step " << i + 1;
  }

  std::map<int, std::string> working_folders_;  ///< of ranks that don't start in the test's own
};

}  // namespace lorikeet::train_testing
