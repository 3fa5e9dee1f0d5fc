#pragma once
#include "src/ops/cuda/types.h"

/// Small kernels that try the emulator: right as they are, or with one fault planted.
namespace lorikeet::emulation {

enum class Plant {
  none,
  no_barrier,          ///< before reading what other threads copied
  no_wait,             ///< for the asynchronous copies
  wait_for_too_few,    ///< leaves the last group in flight
  divergent_barrier,   ///< reached by one warp only
  barriers_apart,      ///< the block meets in two different barriers
  divergent_shuffle,   ///< half a warp
  beyond_shared,       ///< writes one element past the block's shared memory
  beyond_shared_copy,  ///< the same by an asynchronous copy
  warp_race,           ///< lanes of one warp read each other's store without a warp barrier
  late_overwrite,      ///< writes what a slower warp still reads
  read_unwritten,      ///< shared memory that nobody wrote
  same_output,         ///< two blocks write the same element
  copy_never_awaited,  ///< a copy is under way when its thread ends
  far_beyond_shared,   ///< writes 100 KB past the block's shared memory
  elsewhere,           ///< writes global memory as plain C++
  global_race,         ///< reads what another thread of the block has stored, without a barrier
  misaligned_shared,   ///< reads 4 bytes of shared memory at an address that 2 divides
  misaligned_copy,     ///< copies 16 bytes to an address of shared memory that 4 divides
  misaligned_global,   ///< loads 16 bytes of global memory at an address that 4 divides
};

struct ProbeArguments {
  const ops::cuda::bf16 *a, *b;  // [32, 16], [16, 16]
  float* out;                    // num_blocks x ([32, 16] = a b^T, then its sum)
  Plant plant;
};
constexpr int kProbeOutputs = 32 * 16 + 1;
/// 64 threads a block.
void launch_probe(int blocks, const ProbeArguments& arguments);

}  // namespace lorikeet::emulation
