#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "src/ops/cuda/geometry.h"
#include "src/ops/cuda/launchers.h"
#include "src/ops/cuda/rows.h"

/// What launches ask of the hardware, computed from their arguments.
namespace lorikeet::ops::cuda {

struct Work {
  int64_t global_read_bytes = 0, global_written_bytes = 0;  ///< asked of L1 and L2 by threads
  int64_t shared_copied_bytes = 0, shared_matrix_bytes = 0;
  int64_t tensor_flops = 0;
  /// Of global memory, each byte that is read once, and each that is written once.
  int64_t touched_read_bytes = 0, touched_written_bytes = 0;
  int64_t slab_bytes = 0;  ///< of these, in the slab, which is meant to stay in L2
};

struct LaunchWork {
  std::string name;
  Work work;
  int blocks = 0;
  int64_t tiles = 0;  ///< of a product; 0 for the kernels that stream
};

/// Launches nothing and counts. Tile tables must be in host memory; nothing else is dereferenced.
class WorkCounter : public Launcher {
 public:
  std::vector<LaunchWork> launches;

  void merge(const CombineArguments& arguments, bool experts_are_float, int blocks) override;
  void expert_gradients(const CombineArguments& arguments, bool experts_are_float,
                        int blocks) override;
  void gate_up(const GateUpArguments& arguments, Tile tile, int blocks) override;
  void down(const StoreArguments& arguments, Tile tile, int blocks) override;
  void hidden_gradient(const HiddenGradientArguments& arguments, Tile tile, int blocks) override;
  void input_gradient(const StoreArguments& arguments, Tile tile, int blocks) override;
  void segment_gradients(const SegmentGradientArguments& arguments, Tile tile, int blocks) override;
  void routing_gradients(const RoutingGradientArguments& arguments, bool experts_are_float,
                         int blocks) override;
  void sum_partials(const SumArguments& arguments, int blocks) override;
};

/// The same of the row kernels.
LaunchWork count_rope(const RopeArguments& arguments, bool is_float, int blocks);
/// @param counting  rows whose target counts
LaunchWork count_cross_entropy(const CrossEntropyArguments& arguments, bool is_float, int blocks,
                               int64_t counting);
LaunchWork count_rms_norm(const RmsNormArguments& arguments, bool is_float, int blocks);
LaunchWork count_rms_norm_input(const RmsNormInputArguments& arguments, bool is_float, int blocks);
LaunchWork count_rms_norm_weight(const RmsNormWeightArguments& arguments, bool is_float,
                                 int blocks);

}  // namespace lorikeet::ops::cuda
