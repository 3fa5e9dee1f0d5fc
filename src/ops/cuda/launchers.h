#pragma once
#include <memory>

#include "types.h"

/// Every launch of the merged feed-forward, behind an interface: on a GPU, under the emulator, or
/// only counted (host/work.h).
namespace lorikeet::ops::cuda {

enum class Tile { tall, flat };  ///< tiles.h

/// The kernels that an architecture runs: docs/gpu_kernels.md, "Another set of kernels".
enum class KernelSet {
  none,  ///< batched products instead: before sm_80
  mma,   ///< mma, ldmatrix, cp.async: sm_80 and newer
};

class Launcher {
 public:
  virtual ~Launcher() = default;

  /// Experts to a slab, and a slab to the experts' gradients: combine, either way.
  virtual void merge(const CombineArguments& arguments, bool experts_are_float, int blocks) = 0;
  virtual void expert_gradients(const CombineArguments& arguments, bool experts_are_float,
                                int blocks) = 0;
  virtual void gate_up(const GateUpArguments& arguments, Tile tile, int blocks) = 0;
  virtual void down(const StoreArguments& arguments, Tile tile, int blocks) = 0;
  virtual void hidden_gradient(const HiddenGradientArguments& arguments, Tile tile, int blocks) = 0;
  virtual void input_gradient(const StoreArguments& arguments, Tile tile, int blocks) = 0;
  virtual void segment_gradients(const SegmentGradientArguments& arguments, Tile tile,
                                 int blocks) = 0;
  virtual void routing_gradients(const RoutingGradientArguments& arguments, bool experts_are_float,
                                 int blocks) = 0;
  virtual void sum_partials(const SumArguments& arguments, int blocks) = 0;
};

/// Launches of a set of kernels on a CUDA stream (a cudaStream_t). kernels.cu defines it for CUDA;
/// tests/emulation/ compiles the same file for the emulator.
std::unique_ptr<Launcher> make_launcher(KernelSet kernels, void* stream);

}  // namespace lorikeet::ops::cuda
