#pragma once
#include <c10/util/intrusive_ptr.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "lorikeet/parallel/exchange.h"

namespace lorikeet {

/// Opens the store at which the ranks of a run meet. Rank 0 hosts it, unless the launcher does.
/// @param is_host  this process listens at `port`
/// @throws Error(kCommunication) where nobody answers in time
c10::intrusive_ptr<c10d::Store> open_tcp_store(const std::string& address, int port, bool is_host,
                                               int world_size, std::chrono::milliseconds timeout);

/// Texts through a c10d store. Each object needs a name of its own, the same on all ranks.
class StoreExchange : public Exchange {
 public:
  /// @param silence  a rank whose watchdog has given no sign of life for so long (Watchdog) is not
  ///     waited for any longer, however much of `timeout` is left
  StoreExchange(c10::intrusive_ptr<c10d::Store> store, std::string name, int rank, int size,
                std::chrono::milliseconds timeout,
                std::optional<std::chrono::milliseconds> silence = std::nullopt);
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::vector<std::string> gather(const std::string& mine) override;

 private:
  std::string key(int64_t round, int rank) const;
  void wait_for(const std::string& key, int rank, std::chrono::steady_clock::time_point deadline);

  c10::intrusive_ptr<c10d::Store> store_;
  std::string name_;
  int rank_, size_;
  std::chrono::milliseconds timeout_;
  std::optional<std::chrono::milliseconds> silence_;
  int64_t round_ = 0;
};

}  // namespace lorikeet
