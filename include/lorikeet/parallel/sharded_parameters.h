#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "lorikeet/ops/gradient_sink.h"
#include "lorikeet/parallel/communication_thread.h"
#include "lorikeet/parallel/device_mesh.h"
#include "lorikeet/parallel/unit_schedule.h"

namespace lorikeet {

class MemorySlots;

/// A leaf that wants a gradient, contiguous.
struct UnitParameter {
  std::string name;
  at::Tensor leaf;
  /// The optimizer sees a unit's parameters of one group as one flat tensor: all matrices or none.
  int group = 0;
};

/// Parameters that are gathered, used and reduced together: a block.
struct ParameterUnit {
  std::string name;
  std::vector<UnitParameter> parameters;  ///< of one dtype
  /// From its first use in forward until the end of backward: for what forward's end and backward's
  /// beginning use, such as the head.
  bool stays_gathered = false;
  /// False where backward needs the gradient alone, as that of an embedding.
  bool is_used_in_backward = true;
};

/// Part of one parameter that this rank owns.
struct ParameterPiece {
  const std::string& name;
  at::IntArrayRef shape;  ///< of the whole parameter
  int64_t begin;          ///< first element of it, row by row
  int64_t numel;
  size_t tensor;   ///< which of optimizer_tensors() holds it
  int64_t offset;  ///< and where in that
};

/// A contiguous run of one unit's elements that this rank's optimizer works on.
struct OptimizerTensor {
  std::string name;
  at::Tensor values;  ///< 1-D leaf; grad() is its gradient between end_backward and zero_grad
  bool is_matrix;     ///< of parameters with two dimensions or more
};

/// The parameters of a module over the ranks of a mesh: data parallelism and ZeRO (arXiv
/// 1910.02054) for any LibTorch module.
///
/// Each unit's parameters become views of one flat buffer, group by group, each aligned, padded to
/// whole shards. By stage, a rank of a shard group of S ranks keeps of a unit
///
///     stage  parameters  gradients  optimizer   collectives a step, k micro-batches, n elements
///     0      n           n          n           all_reduce n (replicas)
///     1      n           n          n / S       reduce_scatter n, all_gather n
///     2      n           n / S      n / S       k reduce_scatter n, all_gather n
///     3      n / S       n / S      n / S       k reduce_scatter n, 2k all_gather n
///
/// and, with R replicas, one all_reduce of n / S. Besides, from stage 2 on two units have whole
/// gradients at a time, one that is being made and one that is being reduced, and in stage 3 two,
/// with those that stay gathered three or four, have whole parameters; this memory goes from one
/// unit to the next and is allocated once. Gradients of a unit are reduced as soon as they
/// are complete, in a thread beside the backward pass, from the last unit to the first on every
/// rank; parameters are gathered one unit ahead of their use. Sums add in the order of the ranks.
/// A parameter without a gradient takes part with zeros.
///
///     sharded.zero_grad();
///     for each micro-batch: begin_backward(is_last); loss.backward(); end_backward();
///     optimizer over optimizer_tensors();
///     sharded.publish();
class ShardedParameters : public UnitSchedule, private ops::GradientSink {
 public:
  /// Sets a parameter's first values, given its name.
  using Fill = std::function<void(const std::string& name, at::Tensor parameter)>;

  /// @param stage  0 to 3; the same as 0 where shard groups have one rank
  /// @param fill   called unit by unit; without it parameters keep their values. No more than one
  ///     unit is whole at a time with stage 3, so parameters may come uninitialised.
  /// @param mesh   must outlive this object, as this object must any graph over the parameters
  ShardedParameters(const std::vector<ParameterUnit>& units, int stage, DeviceMesh& mesh,
                    const Fill& fill = nullptr);
  ~ShardedParameters() override;

  void before_forward(int64_t unit) override;
  void after_forward(int64_t unit, const at::Tensor& output) override;

  /// Drops all gradients.
  void zero_grad();
  /// Until end_backward the tiled operators of this thread write a parameter's first gradient of
  /// the step straight into the flat buffers; a parameter that one of them uses may have no other
  /// use.
  /// @param is_last  of the step: its end reduces what earlier ones have added up
  void begin_backward(bool is_last);
  /// Until all that backward has started is done. After the last one optimizer_tensors() have their
  /// gradients: of the sum over all ranks.
  void end_backward();
  /// After the optimizer: makes the new values known; the next forward waits for them unit by unit.
  void publish();
  /// Stage 3: frees what is gathered, after a forward pass without backward.
  void release();

  /// Runs `use` while all parameters are whole, for what needs them all at once.
  void while_gathered(const std::function<void()>& use);
  /// All ranks' parts of a unit's optimizer state: [elements of the unit], at unit_offset().
  /// @param mine  parallel to optimizer_tensors()
  at::Tensor gather_unit(int64_t unit, const std::vector<at::Tensor>& mine);
  /// Where a parameter lies in its unit's flat buffer.
  struct Place {
    int64_t unit, offset, numel;
  };
  Place place_of(const std::string& name) const;

  const std::vector<OptimizerTensor>& optimizer_tensors() const { return tensors_; }
  /// This rank's pieces; over a shard group they tile every parameter.
  std::vector<ParameterPiece> pieces() const;
  int stage() const { return stage_; }
  int64_t num_units() const { return static_cast<int64_t>(units_.size()); }
  /// Elements of a unit's flat buffer, padding included.
  int64_t padded_numel(int64_t unit) const;
  /// Memory of parameters and gradients, whole ones and shards, and what waits for the next unit.
  int64_t held_bytes() const;

 private:
  struct Unit;
  void lay_out(const ParameterUnit& given, Unit& unit) const;
  void make_views(Unit& unit, const Fill& fill);
  void make_optimizer_tensors(Unit& unit);
  void accumulate(Unit& unit, size_t parameter, const at::Tensor& leaf);
  void stop_taking_gradients();
  void complete(Unit& unit, size_t parameter);
  float* place_of(const at::Tensor& weight) override;
  void written(const at::Tensor& weight) override;
  /// The parameter that lies where the weight does; null: none.
  std::pair<Unit*, size_t> find(const at::Tensor& weight) const;
  void launch_ready(bool flush);
  void reduce(Unit& unit);
  void gather(Unit& unit);
  void wait_for(CommunicationThread::Pending& pending, const Unit& unit);
  void make_room_for_gradient(Unit& unit);
  void finish_reduction(Unit& unit);
  void ensure_gathered(Unit& unit);
  void free(Unit& unit);
  void before_backward(int64_t index);
  Unit& at(int64_t index) { return *units_[static_cast<size_t>(index)]; }
  bool is_sharded() const { return mesh_.shape().shard > 1; }

  DeviceMesh& mesh_;
  int stage_;
  std::vector<std::unique_ptr<Unit>> units_;
  std::vector<OptimizerTensor> tensors_;
  bool is_last_ = true;
  int64_t next_to_reduce_ = -1;               // units are reduced from the last to the first
  std::deque<Unit*> being_reduced_;           // of stage 2 and 3, in this order
  std::unique_ptr<MemorySlots> slots_;        // of whole parameters and gradients
  CommunicationThread gathers_, reductions_;  // last: their jobs use the rest
};

}  // namespace lorikeet
