// S ranks of a shard group, n elements of a unit, R replicas.
#include "lorikeet/parallel/sharded_parameters.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <set>
#include <utility>

#include "flat_storage.h"
#include "lorikeet/core/error.h"

namespace lorikeet {

namespace {

constexpr int64_t kParameterAlignment = 64;  // elements: a cache line of any dtype
/// Elements. Shards and groups begin at multiples, so that sums over blocks of as many elements
/// (optim/clip.h) are the same however a unit is cut.
constexpr int64_t kBlock = 1024;

int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

/// Units whose gradients are whole while one more is made: what comes next waits for the network.
constexpr size_t kMaxBeingReduced = 1;

/// Calls a function after a leaf's gradient was accumulated.
class AfterGradient : public torch::autograd::PostAccumulateGradHook {
 public:
  explicit AfterGradient(std::function<void(const at::Tensor&)> function)
      : function_(std::move(function)) {}
  void operator()(const at::Tensor& leaf) override { function_(leaf); }

 private:
  std::function<void(const at::Tensor&)> function_;
};

}  // namespace

struct ShardedParameters::Unit {
  struct Parameter {
    std::string name;
    at::Tensor leaf;
    int64_t offset, numel;
    bool has_gradient = false, is_complete = false;  // complete: in this backward pass
  };
  std::string name;
  int64_t index = 0;
  bool stays_gathered = false, is_used_in_backward = true;
  std::vector<Parameter> parameters;
  struct Group {
    int id;
    int64_t begin;
    bool is_matrix;
  };
  std::vector<Group> groups;
  int64_t numel = 0;          // with padding: S * shard
  at::Tensor flat;            // [numel]: the leaves are views of it; freed between uses in stage 3
  at::Tensor shard;           // [numel / S]: part of flat, but in stage 3
  at::Tensor gradient;        // [numel]; freed between uses from stage 2 on
  at::Tensor gradient_shard;  // [numel / S]: part of gradient before stage 2
  size_t first_tensor = 0, num_tensors = 0;    // in optimizer_tensors()
  size_t num_missing = 0;                      // gradients that this backward pass still owes
  bool is_gathered = true, has_shard = false;  // has_shard: gradient_shard holds a sum
  CommunicationThread::Pending gathering, reducing;

  int64_t shard_numel(const DeviceMesh& mesh) const { return numel / mesh.shape().shard; }
  int64_t shard_begin(const DeviceMesh& mesh) const {
    return mesh.shard_rank() * shard_numel(mesh);
  }
};

ShardedParameters::ShardedParameters(const std::vector<ParameterUnit>& units, int stage,
                                     DeviceMesh& mesh, const Fill& fill)
    : mesh_(mesh),
      stage_(mesh.shape().shard > 1 ? stage : 0),
      slots_(std::make_unique<MemorySlots>()),
      gathers_(mesh.device()),
      reductions_(mesh.device()) {
  const at::NoGradGuard no_grad;
  for (const ParameterUnit& given : units) {
    auto unit = std::make_unique<Unit>();
    unit->name = given.name;
    unit->index = static_cast<int64_t>(units_.size());
    unit->stays_gathered = given.stays_gathered;
    unit->is_used_in_backward = given.is_used_in_backward;
    lay_out(given, *unit);
    make_views(*unit, fill);
    make_optimizer_tensors(*unit);
    units_.push_back(std::move(unit));
  }
}

ShardedParameters::~ShardedParameters() {
  stop_taking_gradients();
  for (const auto& unit : units_) {
    for (auto& parameter : unit->parameters) {
      torch::autograd::impl::set_post_acc_grad_hooks(parameter.leaf, nullptr);
    }
  }
}

/// Groups in order of their numbers, parameters in the given order.
void ShardedParameters::lay_out(const ParameterUnit& given, Unit& unit) const {
  auto ordered = given.parameters;
  std::stable_sort(ordered.begin(), ordered.end(),
                   [](const auto& a, const auto& b) { return a.group < b.group; });
  for (const auto& [name, leaf, group] : ordered) {
    const bool is_matrix = leaf.dim() >= 2;
    if (unit.groups.empty() || unit.groups.back().id != group) {
      unit.numel = round_up(unit.numel, kBlock);
      unit.groups.push_back({group, unit.numel, is_matrix});
    }
    if (unit.groups.back().is_matrix != is_matrix) {
      throw Error(ExitCode::kInternal,
                  fmt::format("sharded parameters: group {} of unit {} has matrices and others",
                              group, given.name));
    }
    const int64_t offset = round_up(unit.numel, kParameterAlignment);
    unit.parameters.push_back({name, leaf, offset, leaf.numel()});
    unit.numel = offset + leaf.numel();
  }
  unit.numel = round_up(std::max<int64_t>(unit.numel, 1), mesh_.shape().shard * kBlock);
}

/// The flat buffer, the leaves as views of it with their values, the hooks on their gradients.
void ShardedParameters::make_views(Unit& unit, const Fill& fill) {
  const auto options =
      unit.parameters.front().leaf.options().device(mesh_.device()).requires_grad(false);
  unit.flat = at::zeros({unit.numel}, options);
  for (size_t i = 0; i < unit.parameters.size(); ++i) {
    Unit::Parameter& parameter = unit.parameters[i];
    const at::Tensor view = parameter_view(unit.flat, parameter.offset, parameter.leaf.sizes());
    if (!fill) view.copy_(parameter.leaf.detach());
    parameter.leaf.set_data(view);
    if (fill) fill(parameter.name, parameter.leaf.detach());
    torch::autograd::impl::set_post_acc_grad_hooks(
        parameter.leaf, std::make_unique<AfterGradient>([this, &unit, i](const at::Tensor& leaf) {
          accumulate(unit, i, leaf);
        }));
  }
  const int64_t begin = unit.shard_begin(mesh_), size = unit.shard_numel(mesh_);
  unit.shard = unit.flat.narrow(0, begin, size);
  if (stage_ == 3) {
    unit.shard = unit.shard.clone();
    free(unit);
    slots_->trim();
  }
  unit.gradient = at::zeros({unit.numel}, options);
  unit.gradient_shard = unit.gradient.narrow(0, begin, size);
  if (stage_ >= 2) {
    unit.gradient_shard = at::zeros({size}, options);
    slots_->take_back(unit.gradient);
    slots_->trim();
  }
}

/// What this rank's shard has of each group.
void ShardedParameters::make_optimizer_tensors(Unit& unit) {
  const int64_t begin = unit.shard_begin(mesh_), end = begin + unit.shard_numel(mesh_);
  unit.first_tensor = tensors_.size();
  for (size_t i = 0; i < unit.groups.size(); ++i) {
    const Unit::Group& group = unit.groups[i];
    const bool is_last = i + 1 == unit.groups.size();
    const int64_t first = std::max(begin, group.begin);
    const int64_t last = std::min(end, is_last ? unit.numel : unit.groups[i + 1].begin);
    if (first >= last) continue;
    at::Tensor values = unit.shard.detach().narrow(0, first - begin, last - first);
    values.mutable_grad() = unit.gradient_shard.narrow(0, first - begin, last - first);
    tensors_.push_back(
        {fmt::format("{}.{}", unit.name, group.id), std::move(values), group.is_matrix});
  }
  unit.num_tensors = tensors_.size() - unit.first_tensor;
}

void ShardedParameters::zero_grad() {
  for (const auto& unit : units_) {
    unit->has_shard = false;
    for (auto& parameter : unit->parameters) parameter.has_gradient = false;
  }
}

/// The thread that trains has nothing else to do; seen in the trace.
void ShardedParameters::wait_for(CommunicationThread::Pending& pending, const Unit& unit) {
  if (!pending.is_valid()) return;
  const Trace::Span span(mesh_.monitor().trace(), kComputeTrack, "wait " + unit.name);
  pending.wait();
}

void ShardedParameters::begin_backward(bool is_last) {
  is_last_ = is_last;
  next_to_reduce_ = num_units() - 1;
  for (const auto& unit : units_) {
    unit->num_missing = unit->parameters.size();
    for (auto& parameter : unit->parameters) parameter.is_complete = false;
  }
  ops::set_gradient_sink(this);
}

void ShardedParameters::stop_taking_gradients() {
  if (ops::gradient_sink() == this) ops::set_gradient_sink(nullptr);
}

/// One leaf's gradient has come: into the flat buffer with it.
void ShardedParameters::accumulate(Unit& unit, size_t index, const at::Tensor& leaf) {
  if (!leaf.grad().defined()) return;  // a tiled operator wrote it
  const at::NoGradGuard no_grad;
  finish_reduction(unit);
  make_room_for_gradient(unit);
  Unit::Parameter& parameter = unit.parameters[index];
  const at::Tensor place = unit.gradient.narrow(0, parameter.offset, parameter.numel);
  const at::Tensor gradient = leaf.grad().reshape({-1});
  parameter.has_gradient ? place.add_(gradient) : place.copy_(gradient);
  leaf.mutable_grad().reset();
  complete(unit, index);
}

void ShardedParameters::complete(Unit& unit, size_t index) {
  Unit::Parameter& parameter = unit.parameters[index];
  if (std::exchange(parameter.is_complete, true) && ops::gradient_sink() == this) {
    throw Error(ExitCode::kInternal,
                fmt::format("sharded parameters: '{}' has two gradients from one backward pass, of "
                            "which a tiled operator made one",
                            parameter.name));
  }
  parameter.has_gradient = true;
  if (--unit.num_missing == 0) launch_ready(/*flush=*/false);
}

std::pair<ShardedParameters::Unit*, size_t> ShardedParameters::find(
    const at::Tensor& weight) const {
  for (const auto& unit : units_) {
    // Not by address: the memory of freed buffers goes to others.
    if (!weight.is_alias_of(unit->flat)) continue;
    for (size_t i = 0; i < unit->parameters.size(); ++i) {
      const Unit::Parameter& parameter = unit->parameters[i];
      if (parameter.offset == weight.storage_offset() && parameter.numel == weight.numel()) {
        return {unit.get(), i};
      }
    }
  }
  return {nullptr, 0};
}

float* ShardedParameters::place_of(const at::Tensor& weight) {
  const auto [unit, index] = find(weight);
  if (unit == nullptr || !weight.is_contiguous() || !unit->flat.is_cpu()) return nullptr;
  const Unit::Parameter& parameter = unit->parameters[index];
  // A later micro-batch's is made whole and then added, as ranks add theirs: the bits must not
  // depend on who had which.
  if (parameter.has_gradient) return nullptr;
  finish_reduction(*unit);
  make_room_for_gradient(*unit);
  return unit->gradient.mutable_data_ptr<float>() + parameter.offset;
}

void ShardedParameters::written(const at::Tensor& weight) {
  const auto [unit, index] = find(weight);
  complete(*unit, index);
}

/// Starts the reductions whose turn it is. @param flush  gradients that are missing will not come
void ShardedParameters::launch_ready(bool flush) {
  if (!is_last_ && stage_ < 2) return;
  while (next_to_reduce_ >= 0 && (flush || at(next_to_reduce_).num_missing == 0)) {
    reduce(at(next_to_reduce_--));
  }
}

void ShardedParameters::reduce(Unit& unit) {
  const at::NoGradGuard no_grad;
  finish_reduction(unit);
  make_room_for_gradient(unit);
  int64_t end = 0;  // gaps and parameters without a gradient are zero
  for (auto& parameter : unit.parameters) {
    if (parameter.offset > end) unit.gradient.narrow(0, end, parameter.offset - end).zero_();
    end = parameter.offset + parameter.numel;
    if (!parameter.has_gradient) {
      unit.gradient.narrow(0, parameter.offset, parameter.numel).zero_();
    }
    if (stage_ >= 2) parameter.has_gradient = false;
  }
  unit.gradient.narrow(0, end, unit.numel - end).zero_();
  if (mesh_.world_size() == 1) return;
  unit.reducing = reductions_.run([this, &unit, is_last = is_last_] {
    const at::NoGradGuard no_grad_here;
    if (is_sharded() && unit.has_shard) {
      const at::Tensor sum = at::empty_like(unit.gradient_shard);
      mesh_.reduce().reduce_scatter(sum, unit.gradient, unit.name);
      unit.gradient_shard.add_(sum);
    } else if (is_sharded()) {
      mesh_.reduce().reduce_scatter(unit.gradient_shard, unit.gradient, unit.name);
    }
    unit.has_shard = stage_ >= 2;
    if (is_last) mesh_.replicate().all_reduce(unit.gradient_shard, unit.name);
  });
  if (stage_ >= 2) being_reduced_.push_back(&unit);
}

/// From stage 2 on whole gradients come and go.
void ShardedParameters::make_room_for_gradient(Unit& unit) {
  if (has_memory(unit.gradient)) return;
  while (being_reduced_.size() > kMaxBeingReduced) finish_reduction(*being_reduced_.front());
  slots_->give(unit.gradient);
}

void ShardedParameters::finish_reduction(Unit& unit) {
  if (!unit.reducing.is_valid()) return;
  wait_for(unit.reducing, unit);
  if (stage_ < 2) return;
  slots_->take_back(unit.gradient);
  std::erase(being_reduced_, &unit);
}

void ShardedParameters::end_backward() {
  stop_taking_gradients();
  launch_ready(/*flush=*/true);
  for (const auto& unit : units_) finish_reduction(*unit);
  release();
}

void ShardedParameters::publish() {
  if (stage_ != 1 && stage_ != 2) return;
  for (const auto& unit : units_) gather(*unit);
}

/// Starts to fill the flat buffer from all shards.
void ShardedParameters::gather(Unit& unit) {
  slots_->give(unit.flat);
  unit.is_gathered = true;
  unit.gathering =
      gathers_.run([this, &unit] { mesh_.gather().all_gather(unit.flat, unit.shard, unit.name); });
}

void ShardedParameters::ensure_gathered(Unit& unit) {
  if (!unit.is_gathered) gather(unit);
  wait_for(unit.gathering, unit);
}

void ShardedParameters::free(Unit& unit) {
  unit.gathering.wait();
  unit.is_gathered = false;
  slots_->take_back(unit.flat);
}

void ShardedParameters::release() {
  if (stage_ < 3) return;
  for (const auto& unit : units_) {
    if (unit->is_gathered) free(*unit);
  }
}

void ShardedParameters::before_forward(int64_t index) {
  ensure_gathered(at(index));
  if (stage_ == 3 && index + 1 < num_units() && !at(index + 1).is_gathered) gather(at(index + 1));
}

void ShardedParameters::after_forward(int64_t index, const at::Tensor& output) {
  if (stage_ < 3) return;
  if (output.requires_grad() && at(index).is_used_in_backward) {
    output.register_hook([this, index](const at::Tensor&) { before_backward(index); });
  }
  if (!at(index).stays_gathered) free(at(index));
}

/// The gradient of the unit's output is complete: the unit above is done with its parameters.
void ShardedParameters::before_backward(int64_t index) {
  if (index + 1 < num_units() && !at(index + 1).stays_gathered && at(index + 1).is_gathered) {
    free(at(index + 1));
  }
  ensure_gathered(at(index));
  if (index == 0) return;
  Unit& next = at(index - 1);
  if (next.is_used_in_backward && !next.is_gathered) gather(next);
}

void ShardedParameters::while_gathered(const std::function<void()>& use) {
  for (const auto& unit : units_) ensure_gathered(*unit);
  use();
  release();
  slots_->trim();
}

at::Tensor ShardedParameters::gather_unit(int64_t index, const std::vector<at::Tensor>& mine) {
  const at::NoGradGuard no_grad;
  Unit& unit = at(index);
  const at::Tensor all = at::zeros({unit.numel}, mine.at(unit.first_tensor).options());
  const at::Tensor part = all.narrow(0, unit.shard_begin(mesh_), unit.shard_numel(mesh_));
  int64_t offset = 0;
  for (size_t i = 0; i < unit.num_tensors; ++i) {
    const at::Tensor& values = mine[unit.first_tensor + i];
    part.narrow(0, offset, values.numel()).copy_(values);
    offset += values.numel();
  }
  gathers_.run([&] { mesh_.gather().all_gather(all, part, unit.name); }).wait();
  return all;
}

ShardedParameters::Place ShardedParameters::place_of(const std::string& name) const {
  for (const auto& unit : units_) {
    for (const auto& parameter : unit->parameters) {
      if (parameter.name == name) return {unit->index, parameter.offset, parameter.numel};
    }
  }
  throw Error(ExitCode::kInternal, "sharded parameters: there is no parameter '" + name + "'");
}

std::vector<ParameterPiece> ShardedParameters::pieces() const {
  std::vector<ParameterPiece> pieces;
  for (const auto& unit : units_) {
    int64_t first = unit->shard_begin(mesh_);
    for (size_t i = 0; i < unit->num_tensors; ++i) {
      const size_t tensor = unit->first_tensor + i;
      const int64_t last = first + tensors_[tensor].values.numel();
      for (const auto& parameter : unit->parameters) {
        const int64_t begin = std::max(first, parameter.offset);
        const int64_t end = std::min(last, parameter.offset + parameter.numel);
        if (begin >= end) continue;
        pieces.push_back({parameter.name, parameter.leaf.sizes(), begin - parameter.offset,
                          end - begin, tensor, begin - first});
      }
      first = last;
    }
  }
  return pieces;
}

int64_t ShardedParameters::padded_numel(int64_t unit) const {
  return units_[static_cast<size_t>(unit)]->numel;
}

int64_t ShardedParameters::held_bytes() const {
  int64_t bytes = slots_->unused_bytes();
  std::set<const void*> counted;  // a shard may be a view of the whole
  for (const auto& unit : units_) {
    for (const at::Tensor& flat : {unit->flat, unit->shard, unit->gradient, unit->gradient_shard}) {
      const c10::Storage& storage = flat.storage();
      if (storage.nbytes() > 0 && counted.insert(storage.data()).second) {
        bytes += static_cast<int64_t>(storage.nbytes());
      }
    }
  }
  return bytes;
}

}  // namespace lorikeet
