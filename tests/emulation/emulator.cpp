// The scheduler: blocks, warps and threads of one launch at a time.
#include "tests/emulation/emulator.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <memory>
#include <numeric>
#include <random>
#include <unordered_map>

#include "tests/emulation/fiber.h"
#include "tests/emulation/sanitizer.h"
#include "tests/emulation/shadow.h"

namespace lorikeet::emulation {

Here here;

namespace {

constexpr int kWarp = 32;
constexpr size_t kAlignment = 128, kGuardBytes = 1 << 18;  // more than a block can have
constexpr int64_t kFaultsKept = 8;                         // of each kind
constexpr size_t kGranule = 4;                             // bytes of global memory
constexpr int kPoison = 0xff;                              // NaN in bf16 and fp32

/// A block's shared memory between two guards, filled with NaN.
class Arena {
 public:
  explicit Arena(size_t bytes) : bytes_(bytes), shadow_(bytes) {
    const size_t all = bytes + 2 * kGuardBytes + kAlignment;
    memory_.reset(new char[all]);
    const auto address = reinterpret_cast<uintptr_t>(memory_.get()) + kGuardBytes;
    begin_ = reinterpret_cast<char*>((address + kAlignment - 1) / kAlignment * kAlignment);
    std::memset(begin_, kPoison, bytes);
    __asan_poison_memory_region(begin_ - kGuardBytes, kGuardBytes);
    __asan_poison_memory_region(begin_ + bytes_, kGuardBytes);
  }
  ~Arena() { __asan_unpoison_memory_region(begin_ - kGuardBytes, bytes_ + 2 * kGuardBytes); }

  char* begin() const { return begin_; }
  size_t bytes() const { return bytes_; }
  Shadow& shadow() { return shadow_; }
  bool is_near(const void* p) const {
    const char* at = static_cast<const char*>(p);
    return at >= begin_ - kGuardBytes && at < begin_ + bytes_ + kGuardBytes;
  }
  bool holds(const void* p, size_t n) const {
    const char* at = static_cast<const char*>(p);
    return at >= begin_ && at + n <= begin_ + bytes_;
  }
  size_t offset(const void* p) const {
    return static_cast<size_t>(static_cast<const char*>(p) - begin_);
  }

 private:
  size_t bytes_;
  Shadow shadow_;
  std::unique_ptr<char[]> memory_;
  char* begin_;
};

struct Copy {
  char* to;
  const char* from;
  size_t bytes;
  bool is_valid;
};

enum class State { ready, at_block_barrier, at_warp_barrier, ended };

struct Block;
struct Thread {
  Fiber* fiber = nullptr;
  Block* block = nullptr;
  int index = 0;
  State state = State::ready;
  Place place;
  Collective work = nullptr;
  void* brought = nullptr;
  bool orders_memory = false;
  std::deque<std::vector<Copy>> closed;
  std::vector<Copy> open;
};

struct Block {
  Block(int index, int num_threads, size_t shared_bytes)
      : index(index),
        arena(shared_bytes),
        threads(static_cast<size_t>(num_threads)),
        warp_epoch(static_cast<size_t>((num_threads + kWarp - 1) / kWarp), 1),
        warp_arrived(warp_epoch.size(), 0) {}
  int index;
  Arena arena;
  std::vector<Thread> threads;
  uint32_t epoch = 1;
  std::vector<uint32_t> warp_epoch;
  std::vector<int> warp_arrived;
  int arrived = 0, ended = 0;
};

std::string where(const Place& place) {
  const std::string path = place.file_name();
  return path.substr(path.rfind('/') + 1) + ":" + std::to_string(place.line());
}

bool is_same(const Place& a, const Place& b) {
  return a.line() == b.line() && a.column() == b.column() &&
         std::strcmp(a.file_name(), b.file_name()) == 0;
}

Schedule schedule;
Report report;
uintptr_t watched_begin = 0, watched_end = 0;

class Grid {
 public:
  Grid(const std::string& name, int blocks, int threads, size_t shared_bytes,
       const std::function<void()>& kernel)
      : name_(name),
        num_blocks_(blocks),
        num_threads_(threads),
        shared_bytes_(shared_bytes),
        kernel_(kernel),
        random_(schedule.seed),
        to_start_(static_cast<size_t>(blocks)) {
    std::iota(to_start_.begin(), to_start_.end(), 0);
    std::shuffle(to_start_.begin(), to_start_.end(), random_);
  }

  void run();
  Counts counts;

  Thread& current() { return *current_; }
  bool is_in_thread() const { return current_ != nullptr; }
  void pause() { current_->fiber->pause(); }
  void arrive_at_block_barrier();
  void arrive_at_warp_barrier();
  void fault(FaultKind kind, const std::string& what);
  void fault_if_found(const Shadow::Result& result, const char* act);
  void note_global(uintptr_t granule, bool is_write);
  bool is_shared_elsewhere(const void* address) const;
  Moment now() const {
    const Block& b = *current_->block;
    return {current_->index, b.epoch, b.warp_epoch[static_cast<size_t>(current_->index / kWarp)]};
  }

 private:
  void start_blocks();
  void step(size_t ready_index);
  void make_ready(Thread& thread);
  void end(Block& block);
  void report_stuck();

  std::string name_;
  int num_blocks_, num_threads_;
  size_t shared_bytes_;
  const std::function<void()>& kernel_;
  std::minstd_rand random_;
  std::vector<int> to_start_;
  std::vector<std::unique_ptr<Block>> alive_;
  std::vector<Thread*> ready_;
  Thread* current_ = nullptr;
  bool is_given_up_ = false;
  struct Owners {
    int writer = -1, reader = -1;   // blocks, the last ones
    bool has_more_readers = false;  // than that one
    int block = -1;                 // whose threads history is about
    History history;
  };
  std::unordered_map<uintptr_t, Owners> global_;
};

Grid* grid = nullptr;

/// Fibers are made once: their stacks are large.
std::vector<std::unique_ptr<Fiber>>& idle_fibers() {
  static std::vector<std::unique_ptr<Fiber>> fibers;
  return fibers;
}

Fiber* take_fiber() {
  auto& idle = idle_fibers();
  if (idle.empty()) return new Fiber;
  Fiber* fiber = idle.back().release();
  idle.pop_back();
  return fiber;
}

void Grid::start_blocks() {
  while (static_cast<int>(alive_.size()) < schedule.resident_blocks && !to_start_.empty()) {
    alive_.push_back(std::make_unique<Block>(to_start_.back(), num_threads_, shared_bytes_));
    to_start_.pop_back();
    Block& block = *alive_.back();
    for (int i = 0; i < num_threads_; ++i) {
      Thread& thread = block.threads[static_cast<size_t>(i)];
      thread.block = &block;
      thread.index = i;
      thread.fiber = take_fiber();
      thread.fiber->start(kernel_);
      ready_.push_back(&thread);
    }
  }
}

void Grid::make_ready(Thread& thread) {
  thread.state = State::ready;
  ready_.push_back(&thread);
}

void Grid::step(size_t ready_index) {
  Thread& thread = *ready_[ready_index];
  ready_[ready_index] = ready_.back();
  ready_.pop_back();
  current_ = &thread;
  here = {thread.index, thread.block->index, num_blocks_, thread.block->arena.begin()};
  thread.state = State::ended;  // unless it pauses, which says otherwise
  thread.fiber->resume();
  if (thread.state != State::ended) return;
  if (!thread.open.empty() || std::any_of(thread.closed.begin(), thread.closed.end(),
                                          [](const auto& group) { return !group.empty(); })) {
    fault(FaultKind::copy_in_flight, "the thread ended before its copies");
  }
  idle_fibers().emplace_back(thread.fiber);
  thread.fiber = nullptr;
  current_ = nullptr;
  Block& block = *thread.block;
  if (++block.ended == num_threads_) end(block);
}

void Grid::end(Block& block) {
  alive_.erase(
      std::find_if(alive_.begin(), alive_.end(), [&](const auto& b) { return b.get() == &block; }));
  start_blocks();
}

void Grid::run() {
  start_blocks();
  while (!alive_.empty() && !is_given_up_) {
    if (ready_.empty()) {
      report_stuck();
      break;
    }
    step(random_() % ready_.size());
  }
  current_ = nullptr;
  // Threads of a launch that was given up never return: their stacks are used again.
  for (auto& block : alive_) {
    for (Thread& thread : block->threads) {
      if (thread.fiber != nullptr) idle_fibers().emplace_back(thread.fiber);
    }
  }
  for (const auto& [granule, owners] : global_) {
    const int64_t read = owners.reader >= 0 ? kGranule : 0,
                  written = owners.writer >= 0 ? kGranule : 0;
    const uintptr_t address = granule * kGranule;
    counts.touched_read_bytes += read;
    counts.touched_written_bytes += written;
    if (address >= watched_begin && address < watched_end) counts.watched_bytes += read + written;
  }
  report.runs.push_back({name_, num_blocks_, num_threads_, counts});
}

void Grid::report_stuck() {
  Block& block = *alive_.front();
  for (Thread& thread : block.threads) {
    if (thread.state == State::ended) continue;
    current_ = &thread;
    fault(FaultKind::divergent, "waits at " + where(thread.place) + " for threads that " +
                                    (block.ended > 0 ? "have ended" : "wait elsewhere"));
    return;
  }
}

void Grid::arrive_at_block_barrier() {
  Block& block = *current_->block;
  current_->state = State::at_block_barrier;
  if (++block.arrived < num_threads_) return;
  const Place& first = block.threads.front().place;
  for (const Thread& thread : block.threads) {
    if (is_same(thread.place, first)) continue;
    fault(FaultKind::divergent,
          "threads meet in barriers at " + where(first) + " and " + where(thread.place));
    is_given_up_ = true;
    return;
  }
  block.arrived = 0;
  ++block.epoch;
  for (uint32_t& epoch : block.warp_epoch) ++epoch;
  for (Thread& thread : block.threads) make_ready(thread);
}

void Grid::arrive_at_warp_barrier() {
  Block& block = *current_->block;
  const int warp = current_->index / kWarp;
  current_->state = State::at_warp_barrier;
  if (++block.warp_arrived[static_cast<size_t>(warp)] < kWarp) return;
  Thread* lanes = &block.threads[static_cast<size_t>(warp * kWarp)];
  void* brought[kWarp];
  for (int lane = 0; lane < kWarp; ++lane) {
    brought[lane] = lanes[lane].brought;
    if (!is_same(lanes[lane].place, lanes[0].place) || lanes[lane].work != lanes[0].work) {
      fault(FaultKind::divergent, "a warp's threads meet at " + where(lanes[0].place) + " and " +
                                      where(lanes[lane].place));
      is_given_up_ = true;
      return;
    }
  }
  if (lanes[0].work != nullptr) lanes[0].work(brought);
  block.warp_arrived[static_cast<size_t>(warp)] = 0;
  if (lanes[0].orders_memory) ++block.warp_epoch[static_cast<size_t>(warp)];
  for (int lane = 0; lane < kWarp; ++lane) make_ready(lanes[lane]);
}

void Grid::fault(FaultKind kind, const std::string& what) {
  ++report.num_faults;
  const auto is_alike = [&](const Fault& f) { return f.kind == kind; };
  if (std::count_if(report.faults.begin(), report.faults.end(), is_alike) >= kFaultsKept) return;
  std::string message = name_ + ", block " + std::to_string(current_->block->index) + ", thread " +
                        std::to_string(current_->index) + ": " + what;
  if (current_->place.line() > 0) message += " (last barrier: " + where(current_->place) + ")";
  report.faults.push_back({kind, std::move(message)});
}

void Grid::fault_if_found(const Shadow::Result& result, const char* act) {
  const std::string what = std::string(act) + " shared byte " + std::to_string(result.offset);
  switch (result.finding) {
    case Shadow::Finding::none:
      return;
    case Shadow::Finding::race:
      return fault(FaultKind::race, what + ", which thread " + std::to_string(result.other_thread) +
                                        " touched without a barrier between");
    case Shadow::Finding::copy_in_flight:
      return fault(FaultKind::copy_in_flight, what + ", which a copy of thread " +
                                                  std::to_string(result.other_thread) +
                                                  " may still write");
    case Shadow::Finding::uninitialised:
      return fault(FaultKind::uninitialised, what + ", which nobody wrote");
  }
}

void Grid::note_global(uintptr_t granule, bool is_write) {
  Owners& owners = global_[granule];
  const int block = current_->block->index;
  const char* act = is_write ? "writes" : "reads";
  const bool is_read_elsewhere =
      owners.has_more_readers || (owners.reader >= 0 && owners.reader != block);
  const bool is_written_elsewhere = owners.writer >= 0 && owners.writer != block;
  if (is_written_elsewhere || (is_write && is_read_elsewhere)) {
    fault(FaultKind::blocks_interfere,
          std::string(act) + " global memory of block " +
              std::to_string(is_written_elsewhere ? owners.writer : owners.reader));
  }
  if (owners.block != block) owners.history = {};
  owners.block = block;
  const int other = is_write ? owners.history.note_write(now()) : owners.history.note_read(now());
  if (other >= 0) {
    fault(FaultKind::race, std::string(act) + " global memory that thread " +
                               std::to_string(other) + " touched without a barrier between");
  }
  if (is_write) {
    owners.writer = block;
  } else {
    owners.has_more_readers = is_read_elsewhere;
    owners.reader = block;
  }
}

bool Grid::is_shared_elsewhere(const void* address) const {
  return std::any_of(alive_.begin(), alive_.end(),
                     [&](const auto& block) { return block->arena.is_near(address); });
}

}  // namespace

bool Report::has(FaultKind kind) const {
  return std::any_of(faults.begin(), faults.end(), [&](const Fault& f) { return f.kind == kind; });
}

std::string Report::text() const {
  std::string all;
  for (const Fault& fault : faults) all += fault.message + "\n";
  return all;
}

void set_schedule(const Schedule& wanted) { schedule = wanted; }

void run(const std::string& name, int blocks, int threads, size_t shared_bytes,
         const std::function<void()>& kernel) {
  Grid launched(name, blocks, threads, shared_bytes, kernel);
  grid = &launched;
  launched.run();
  grid = nullptr;
}

void watch(const void* begin, size_t bytes) {
  watched_begin = reinterpret_cast<uintptr_t>(begin);
  watched_end = watched_begin + bytes;
}

Report take_report() {
  Report taken;
  std::swap(taken, report);
  return taken;
}

void wait_for_block(const Place& place) {
  if (where(place) == schedule.without_barrier) return;
  report.barriers.insert(where(place));
  grid->current().place = place;
  grid->arrive_at_block_barrier();
  grid->pause();
}

void wait_for_warp(Collective work, void* mine, bool orders_memory, const Place& place) {
  Thread& thread = grid->current();
  thread.place = place;
  thread.work = work;
  thread.brought = mine;
  thread.orders_memory = orders_memory;
  grid->arrive_at_warp_barrier();
  grid->pause();
}

void touch(const void* address, size_t bytes, bool is_write) {
  if (grid == nullptr || !grid->is_in_thread()) return;
  const Thread& thread = grid->current();
  if (thread.fiber->holds(address)) return;
  if (thread.block->arena.is_near(address)) return touch_shared(address, bytes, is_write);
  if (is_write || grid->is_shared_elsewhere(address)) {
    grid->fault(FaultKind::out_of_bounds, std::string(is_write ? "writes " : "reads ") +
                                              std::to_string(bytes) +
                                              " bytes that are neither shared nor the thread's");
  }
}

namespace {

/// Whether the access may go on.
bool check_shared(const void* address, size_t bytes, const char* act) {
  const Arena& arena = grid->current().block->arena;
  if (!arena.holds(address, bytes)) {
    grid->fault(FaultKind::out_of_bounds, std::string(act) + " " + std::to_string(bytes) +
                                              " bytes outside of the block's " +
                                              std::to_string(arena.bytes()) + " of shared memory");
    return false;
  }
  if (reinterpret_cast<uintptr_t>(address) % bytes != 0) {
    grid->fault(FaultKind::misaligned, std::string(act) + " " + std::to_string(bytes) +
                                           " bytes at shared byte " +
                                           std::to_string(arena.offset(address)));
  }
  return true;
}

}  // namespace

void touch_shared(const void* address, size_t bytes, bool is_write) {
  const char* act = is_write ? "writes" : "reads";
  if (!check_shared(address, bytes, act)) return;
  Arena& arena = grid->current().block->arena;
  const size_t offset = arena.offset(address);
  grid->fault_if_found(is_write ? arena.shadow().write(offset, bytes, grid->now())
                                : arena.shadow().read(offset, bytes, grid->now()),
                       act);
}

void touch_global(const void* address, size_t bytes, bool is_write) {
  const auto begin = reinterpret_cast<uintptr_t>(address);
  if (begin % bytes != 0) {
    grid->fault(FaultKind::misaligned, std::to_string(bytes) + " bytes of global memory");
  }
  (is_write ? grid->counts.global_written_bytes : grid->counts.global_read_bytes) +=
      static_cast<int64_t>(bytes);
  for (size_t i = 0; i < bytes; i += kGranule) grid->note_global((begin + i) / kGranule, is_write);
}

void start_copy(void* shared, const void* global, size_t bytes, bool is_valid) {
  if (!check_shared(shared, bytes, "copies")) return;
  if (is_valid) touch_global(global, bytes, /*is_write=*/false);
  Arena& arena = grid->current().block->arena;
  grid->counts.shared_copied_bytes += static_cast<int64_t>(bytes);
  grid->fault_if_found(arena.shadow().start_copy(arena.offset(shared), bytes, grid->now()),
                       "copies over");
  std::memset(shared, kPoison, bytes);
  grid->current().open.push_back(
      {static_cast<char*>(shared), static_cast<const char*>(global), bytes, is_valid});
}

void commit_copies() {
  Thread& thread = grid->current();
  thread.closed.push_back(std::move(thread.open));
  thread.open.clear();
}

void wait_copies(int pending) {
  Thread& thread = grid->current();
  Arena& arena = thread.block->arena;
  while (static_cast<int>(thread.closed.size()) > pending) {
    for (const Copy& copy : thread.closed.front()) {
      if (copy.is_valid) {
        std::memcpy(copy.to, copy.from, copy.bytes);
      } else {
        std::memset(copy.to, 0, copy.bytes);
      }
      grid->fault_if_found(
          arena.shadow().finish_copy(arena.offset(copy.to), copy.bytes, grid->now()),
          "copies over");
    }
    thread.closed.pop_front();
  }
}

void count_matrix_read(int64_t bytes, int64_t conflicts) {
  grid->counts.shared_matrix_bytes += bytes;
  grid->counts.bank_conflicts += conflicts;
}

void count_flops(int64_t flops) { grid->counts.tensor_flops += flops; }

}  // namespace lorikeet::emulation
