#include "tests/emulation/shadow.h"

#include <algorithm>

namespace lorikeet::emulation {

namespace {

bool is_same_warp(const Moment& a, const Moment& b) { return a.thread / 32 == b.thread / 32; }

bool happened_before(const Moment& then, const Moment& now) {
  return then.thread == now.thread || then.block_epoch < now.block_epoch ||
         (is_same_warp(then, now) && then.warp_epoch < now.warp_epoch);
}

}  // namespace

template <class Visit>
Shadow::Result Shadow::visit(size_t offset, size_t bytes, const Visit& visit) {
  Result first;
  const size_t end = std::min(cells_.size(), (offset + bytes + kBytes - 1) / kBytes);
  for (size_t i = offset / kBytes; i < end; ++i) {
    Result result = visit(cells_[i]);
    if (first.finding == Finding::none && result.finding != Finding::none) {
      first = result;
      first.offset = i * kBytes;
    }
  }
  return first;
}

// Readers of an earlier epoch are ordered before everybody, those of an earlier warp epoch before
// their own warp. So the last reader and two bits say enough: whether another warp read in this
// epoch too, and whether another lane of the reader's warp did in its epoch.
int History::note_read(const Moment& now) {
  if (read.block_epoch < now.block_epoch) {
    has_readers_in_other_warps = has_readers_in_warp = false;
  } else if (!is_same_warp(read, now)) {
    has_readers_in_other_warps = true;
  } else if (read.warp_epoch < now.warp_epoch) {
    has_readers_in_warp = false;
  } else if (read.thread != now.thread) {
    has_readers_in_warp = true;
  }
  read = now;
  return write.thread >= 0 && !happened_before(write, now) ? write.thread : -1;
}

int History::note_write(const Moment& now) {
  int other = -1;
  if (read.thread >= 0 && read.block_epoch == now.block_epoch) {
    const bool is_ordered_in_warp =
        is_same_warp(read, now) &&
        (read.warp_epoch < now.warp_epoch || (read.thread == now.thread && !has_readers_in_warp));
    if (has_readers_in_other_warps || !is_ordered_in_warp) other = read.thread;
  }
  if (write.thread >= 0 && !happened_before(write, now)) other = write.thread;
  write = now;
  return other;
}

Shadow::Result Shadow::read(size_t offset, size_t bytes, const Moment& now) {
  return visit(offset, bytes, [&](Cell& cell) -> Result {
    const int writer = cell.history.write.thread, other = cell.history.note_read(now);
    if (cell.is_in_flight) return {Finding::copy_in_flight, 0, writer};
    if (writer < 0) return {Finding::uninitialised, 0, -1};
    if (other >= 0) return {Finding::race, 0, other};
    return {};
  });
}

Shadow::Result Shadow::write(size_t offset, size_t bytes, const Moment& now) {
  return visit(offset, bytes, [&](Cell& cell) -> Result {
    const int writer = cell.history.write.thread, other = cell.history.note_write(now);
    if (cell.is_in_flight) return {Finding::copy_in_flight, 0, writer};
    if (other >= 0) return {Finding::race, 0, other};
    return {};
  });
}

Shadow::Result Shadow::start_copy(size_t offset, size_t bytes, const Moment& now) {
  const Result result = write(offset, bytes, now);
  visit(offset, bytes, [](Cell& cell) -> Result {
    cell.is_in_flight = true;
    return {};
  });
  return result;
}

Shadow::Result Shadow::finish_copy(size_t offset, size_t bytes, const Moment& now) {
  visit(offset, bytes, [](Cell& cell) -> Result {
    cell.is_in_flight = false;
    return {};
  });
  return write(offset, bytes, now);
}

}  // namespace lorikeet::emulation
