#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <set>
#include <source_location>
#include <string>
#include <vector>

/// CUDA's execution model on the CPU, for proving kernels where there is no GPU. Every thread is a
/// fiber; which one runs next is drawn by a seeded generator, and several blocks are alive at once.
/// What a GPU leaves undefined is a fault here: see FaultKind.
namespace lorikeet::emulation {

enum class FaultKind {
  race,            ///< two threads of a block touch a byte, one writes, and no barrier orders them
  divergent,       ///< threads of a block or warp wait at different places, or for one that ended
  copy_in_flight,  ///< shared memory is touched that an unfinished asynchronous copy writes
  uninitialised,   ///< shared memory is read that nobody wrote
  out_of_bounds,   ///< an address that is neither shared memory of the block nor the thread's own
  misaligned,      ///< a vector access that its size does not divide
  blocks_interfere,  ///< two blocks touch the same global bytes, and one writes
};

struct Fault {
  FaultKind kind;
  std::string message;  ///< thread, block, shared byte or place in the source
};

/// Work of a launch, as the roofline counts it.
struct Counts {
  int64_t global_read_bytes = 0, global_written_bytes = 0;    ///< asked of L1 or L2 by threads
  int64_t touched_read_bytes = 0, touched_written_bytes = 0;  ///< of global memory, each byte once
  int64_t shared_copied_bytes = 0;  ///< written by asynchronous copies, zeros too
  int64_t shared_matrix_bytes = 0;  ///< read by load_matrices
  int64_t bank_conflicts = 0;       ///< further cycles of load_matrices beyond one a matrix
  int64_t tensor_flops = 0;         ///< of multiply_add: 2 * 16 * 8 * 16 each
  int64_t watched_bytes = 0;        ///< touched in what watch() was given, read and written
};

struct KernelRun {
  std::string name;
  int blocks, threads;
  Counts counts;
};

struct Report {
  std::vector<Fault> faults;  ///< the first of each kind
  int64_t num_faults = 0;
  std::vector<KernelRun> runs;
  std::set<std::string> barriers;  ///< places of the blocks' barriers, "file.cuh:12"

  bool has(FaultKind kind) const;
  std::string text() const;  ///< the faults, a line each
};

struct Schedule {
  unsigned seed = 1;
  int resident_blocks = 3;  ///< blocks alive at once; the next to start is drawn too
  /// The place of a barrier that is passed over, as if it were not in the source.
  std::string without_barrier = {};
};
void set_schedule(const Schedule& schedule);

/// Runs `kernel` for every thread of a grid and adds to the report. A launch whose threads can't go
/// on is given up.
void run(const std::string& name, int blocks, int threads, size_t shared_bytes,
         const std::function<void()>& kernel);
/// Global memory whose touched bytes the next launches count apart.
void watch(const void* begin, size_t bytes);
/// What happened since the last call.
Report take_report();

// What the device interface calls.

/// The running thread.
struct Here {
  int thread = 0, block = 0, num_blocks = 0;
  void* shared = nullptr;
};
extern Here here;

using Place = std::source_location;
/// Work of a warp that its last thread to come does for all 32, given what each brought.
using Collective = void (*)(void* const* lanes);

void wait_for_block(const Place& place);
void wait_for_warp(Collective work, void* mine, bool orders_memory, const Place& place);
/// Called for every load and store of instrumented code, which are to shared memory or to the
/// thread's own stack; constants may be read besides.
void touch(const void* address, size_t bytes, bool is_write);
/// For addresses that must be shared memory.
void touch_shared(const void* address, size_t bytes, bool is_write);
void touch_global(const void* address, size_t bytes, bool is_write);
void start_copy(void* shared, const void* global, size_t bytes, bool is_valid);
void commit_copies();
void wait_copies(int pending);
void count_matrix_read(int64_t bytes, int64_t conflicts);
void count_flops(int64_t flops);

}  // namespace lorikeet::emulation
