#pragma once
#include <string>
#include <vector>

namespace lorikeet {

/// Small texts between the ranks of a run, apart from the tensors' collectives: for what happens
/// rarely (start, checkpoints), on any thread. Every rank calls in the same order.
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  /// @return what each rank gave, by rank
  /// @throws Error(kCommunication) naming the rank whose text did not come in time
  virtual std::vector<std::string> gather(const std::string& mine) = 0;
};

/// One process: no waiting, no sockets.
class OneRank : public Exchange {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  std::vector<std::string> gather(const std::string& mine) override { return {mine}; }
};

}  // namespace lorikeet
