#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace lorikeet::emulation {

/// A thread's place in the order that barriers make: what happened at an earlier block epoch, or in
/// the same warp at an earlier warp epoch, happened before.
struct Moment {
  int thread;
  uint32_t block_epoch, warp_epoch;  ///< both begin at 1
};

/// Who touched some bytes last, as far as it tells whether the next to touch them races.
struct History {
  Moment write{-1, 0, 0}, read{-1, 0, 0};  // the last ones
  bool has_readers_in_other_warps = false, has_readers_in_warp = false;

  /// @return the thread whose write or read nothing orders before this one, or -1
  int note_read(const Moment& now);
  int note_write(const Moment& now);
};

/// What is known of every two bytes of a block's shared memory.
class Shadow {
 public:
  explicit Shadow(size_t bytes) : cells_((bytes + kBytes - 1) / kBytes) {}

  enum class Finding { none, race, copy_in_flight, uninitialised };
  struct Result {
    Finding finding = Finding::none;
    size_t offset = 0;
    int other_thread = -1;
  };

  Result read(size_t offset, size_t bytes, const Moment& now);
  Result write(size_t offset, size_t bytes, const Moment& now);
  /// An asynchronous copy that ends at some time between these two.
  Result start_copy(size_t offset, size_t bytes, const Moment& now);
  Result finish_copy(size_t offset, size_t bytes, const Moment& now);

 private:
  static constexpr size_t kBytes = 2;  // the smallest element
  struct Cell {
    History history;
    bool is_in_flight = false;
  };
  template <class Visit>
  Result visit(size_t offset, size_t bytes, const Visit& visit);

  std::vector<Cell> cells_;
};

}  // namespace lorikeet::emulation
