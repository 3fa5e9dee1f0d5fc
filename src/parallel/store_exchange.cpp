#include "lorikeet/parallel/store_exchange.h"

#include <fmt/format.h>

#include <algorithm>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <utility>

#include "lorikeet/core/error.h"
#include "lorikeet/core/first_line.h"
#include "lorikeet/parallel/watchdog.h"

namespace lorikeet {

namespace {

double seconds(std::chrono::milliseconds time) {
  return std::chrono::duration<double>(time).count();
}

}  // namespace

c10::intrusive_ptr<c10d::Store> open_tcp_store(const std::string& address, int port, bool is_host,
                                               int world_size, std::chrono::milliseconds timeout) {
  c10d::TCPStoreOptions options;
  options.port = static_cast<std::uint16_t>(port);
  options.isServer = is_host;
  options.numWorkers = static_cast<size_t>(world_size);
  options.waitWorkers = false;  // the first gather waits, and names who is missing
  options.timeout = timeout;
  try {
    return c10::make_intrusive<c10d::TCPStore>(address, options);
  } catch (const std::exception& failure) {
    throw Error(ExitCode::kCommunication,
                fmt::format("the ranks' meeting point {}:{} cannot be {}: {}", address, port,
                            is_host ? "opened" : "reached", first_line(failure.what())),
                is_host ? "is the port taken? MASTER_PORT names another"
                        : "does rank 0 run, and do MASTER_ADDR and MASTER_PORT name its host?");
  }
}

StoreExchange::StoreExchange(c10::intrusive_ptr<c10d::Store> store, std::string name, int rank,
                             int size, std::chrono::milliseconds timeout,
                             std::optional<std::chrono::milliseconds> silence)
    : store_(std::move(store)),
      name_(std::move(name)),
      rank_(rank),
      size_(size),
      timeout_(timeout),
      silence_(silence) {}

std::string StoreExchange::key(int64_t round, int rank) const {
  return fmt::format("exchange/{}/{}/{}", name_, round, rank);
}

void StoreExchange::wait_for(const std::string& key, int rank,
                             std::chrono::steady_clock::time_point deadline) {
  using std::chrono::milliseconds, std::chrono::steady_clock;
  std::vector<uint8_t> latest_sign;
  auto alive_at = steady_clock::now();
  for (;;) {
    const auto until =
        silence_ ? std::min(deadline, steady_clock::now() + *silence_ / 4) : deadline;
    const auto left = std::chrono::duration_cast<milliseconds>(until - steady_clock::now());
    try {
      return store_->wait({key}, std::max(left, milliseconds(1)));
    } catch (const std::exception&) {  // also where the store is gone; then it says so again here
      const std::string life = Watchdog::key_of(rank);
      if (!silence_ || steady_clock::now() >= deadline) throw;
      const auto sign = store_->check({life}) ? store_->get(life) : std::vector<uint8_t>();
      if (std::exchange(latest_sign, sign) != sign) {
        alive_at = steady_clock::now();
      } else if (steady_clock::now() - alive_at > *silence_) {
        throw;
      }
    }
  }
}

std::vector<std::string> StoreExchange::gather(const std::string& mine) {
  if (size_ == 1) return {mine};
  const int64_t round = round_++;
  // An empty value would look like a missing key to some stores.
  const std::string sent = "=" + mine;
  const auto deadline = std::chrono::steady_clock::now() + timeout_;
  std::vector<std::string> all;
  int waiting_for = rank_;
  try {
    store_->set(key(round, rank_), std::vector<uint8_t>(sent.begin(), sent.end()));
    for (waiting_for = 0; waiting_for < size_; ++waiting_for) {
      wait_for(key(round, waiting_for), waiting_for, deadline);
      const std::vector<uint8_t> value = store_->get(key(round, waiting_for));
      all.emplace_back(value.begin() + 1, value.end());
    }
    // Whoever is here has seen all of this round, so all have left the round before.
    if (round > 0) store_->deleteKey(key(round - 1, rank_));
  } catch (const std::exception& failure) {
    throw Error(
        ExitCode::kCommunication,
        fmt::format("rank {} waited for rank {} ({}, round {}) up to {} s: {}", rank_, waiting_for,
                    name_, round, seconds(timeout_), first_line(failure.what())),
        fmt::format("rank {} has died, is stuck or was never started; its own log says why",
                    waiting_for));
  }
  return all;
}

}  // namespace lorikeet
