#pragma once
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "lorikeet/parallel/exchange.h"
#include "tests/checkpoint/content.h"

namespace lorikeet::testing {

/// Texts through files of a folder: between threads or processes of one machine.
class FolderExchange : public Exchange {
 public:
  FolderExchange(std::string folder, int rank, int size, double timeout_seconds = 60)
      : folder_(std::move(folder)), rank_(rank), size_(size), timeout_(timeout_seconds) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::vector<std::string> gather(const std::string& mine) override {
    const auto file = [&](int rank) { return fmt::format("{}/{}.{}", folder_, round_, rank); };
    std::ofstream(file(rank_) + ".tmp", std::ios::binary) << mine;
    std::filesystem::rename(file(rank_) + ".tmp", file(rank_));
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::string> texts;
    for (int rank = 0; rank < size_; ++rank) {
      while (!std::filesystem::exists(file(rank))) {
        if (std::chrono::steady_clock::now() - start > timeout_) {
          throw Error(ExitCode::kInternal, fmt::format("rank {} did not answer in time", rank));
        }
        std::this_thread::sleep_for(std::chrono::microseconds(200));
      }
      texts.push_back(read_file(file(rank)));
    }
    ++round_;
    return texts;
  }

 private:
  std::string folder_;
  int rank_, size_;
  std::chrono::duration<double> timeout_;
  int64_t round_ = 0;
};

/// Runs `body(ranks)` on a thread for each rank.
/// @return what each threw, code, message and hint; empty where it threw nothing
inline std::vector<std::string> on_ranks(int size,
                                         const std::function<void(std::shared_ptr<Exchange>)>& body,
                                         double timeout_seconds = 60) {
  const TemporaryFolder folder;
  std::vector<std::string> thrown(static_cast<size_t>(size));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        body(std::make_shared<FolderExchange>(folder.path(), rank, size, timeout_seconds));
      } catch (const Error& error) {
        thrown[static_cast<size_t>(rank)] = fmt::format(
            "{}: {}\nhint: {}", static_cast<int>(error.code()), error.what(), error.hint());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return thrown;
}

/// The first of a rank's elements where `numel` are dealt out evenly; of rank == size the end.
inline int64_t first_of(int rank, int size, int64_t numel) { return numel * rank / size; }

/// One rank's even share of every tensor; of tensors with fewer elements than ranks some get none.
inline CheckpointContent share_of(const CheckpointContent& whole, int rank, int size) {
  CheckpointContent share = whole;
  for (TensorPiece& piece : share.tensors) {
    const int64_t begin = first_of(rank, size, piece.values.numel());
    const int64_t end = first_of(rank + 1, size, piece.values.numel());
    piece.begin = begin;
    piece.values = piece.values.reshape({-1}).narrow(0, begin, end - begin);
  }
  return share;
}

/// Saves each rank's share.
inline std::vector<std::string> save_on_ranks(const std::string& run, int size,
                                              const CheckpointContent& whole,
                                              SaveRetry retry = quick_retry()) {
  return on_ranks(size, [&](const std::shared_ptr<Exchange>& ranks) {
    CheckpointStore(run, keep(9), ranks, retry).save(share_of(whole, ranks->rank(), size));
  });
}

}  // namespace lorikeet::testing
