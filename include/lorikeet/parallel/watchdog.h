#pragma once
#include <c10/util/intrusive_ptr.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "lorikeet/parallel/collective_monitor.h"

namespace lorikeet {

/// Finds a rank that is stuck: when a collective of this rank has lasted longer than `timeout`,
/// compares how far the others have come and says which rank is missing where. A rank that hangs
/// outside of collectives is found by those that wait for it. Also found: a store that does not
/// answer, because its host is stopped or the network is cut; every other operation on it would
/// wait for ever. What it finds it leaves in the store: a rank that then loses its connection to
/// this one tells it too, instead of nothing but that. Meanwhile this rank gives signs of life,
/// which StoreExchange looks for.
class Watchdog {
 public:
  using OpenStore = std::function<c10::intrusive_ptr<c10d::Store>()>;

  /// @param open_store  called in a thread of the watchdog's: a connection of its own, since a
  ///     waiting operation must not stop another. It may take long, or throw
  /// @param on_stuck  called once, in the watchdog's thread, with a message that names rank and
  ///     collective; it usually ends the process, so that the launcher starts all ranks again
  Watchdog(CollectiveMonitor& monitor, OpenStore open_store, int rank, int world_size,
           std::chrono::milliseconds timeout, std::function<void(const std::string&)> on_stuck);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  /// Under which a rank's signs of life lie in the store: another value at least every eighth of
  /// the time limit, and every 5 s.
  static std::string key_of(int rank);

 private:
  struct Talk;
  void watch();
  std::string progress(int64_t beat) const;

  const CollectiveMonitor& monitor_;
  int rank_;
  std::chrono::milliseconds timeout_, period_;
  std::function<void(const std::string&)> on_stuck_;
  std::shared_ptr<Talk> talk_;
  std::thread talking_, watching_;  // last: they use the others
};

}  // namespace lorikeet
