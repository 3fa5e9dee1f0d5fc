// D model, F feed-forward width, E experts, G segments of a micro-batch, C of them merged together.
#include "memory.h"

#include <algorithm>
#include <thread>

#include "lorikeet/model/sequence_layout.h"
#include "lorikeet/ops/cross_entropy.h"
#include "lorikeet/ops/merged_ffn.h"
#include "lorikeet/ops/processor_level.h"
#include "lorikeet/ops/workspace.h"

namespace lorikeet {

namespace {

constexpr int64_t kFloat = 4;
/// As measured: what `lorikeet bench step` takes for a model of some thousand parameters.
constexpr int64_t kProgram = 155'000'000;

int64_t compute_bytes(const RunConfig& config) {
  return config.train.precision == Precision::kBf16 ? 2 : kFloat;
}

/// How feed-forward layers and the loss are computed. The plan is for a CPU where the configuration
/// says so by name: `auto` may be any device, and this machine need not be the one that trains.
enum class Form { kReference, kTiled, kSlabs };

Form form_of(const RunConfig& config) {
  if (config.model.feed_forward.kernel == Kernel::kReference) return Form::kReference;
  return config.train.device == DeviceChoice::kCpu ? Form::kTiled : Form::kSlabs;
}

bool is_tiled(const RunConfig& config) { return form_of(config) == Form::kTiled; }

/// Whether bf16 products read the fp32 masters, for want of bf16 instructions on this machine.
bool multiplies_masters(const RunConfig& config) {
  return is_tiled(config) && config.train.precision == Precision::kBf16 && ops::widens_bf16();
}

/// What the graph keeps for one token, by the parts that activation checkpointing can rebuild.
struct LayerActivations {
  int64_t kept = 0;
  int64_t rebuilt = 0;  ///< in backward, one layer at a time
};

/// From the operators as they are written (src/model, src/ops): a norm keeps its input, by the
/// reference kernel in fp32 and once more scaled; attention its input, q and k before a norm of
/// theirs and after RoPE, v, its output and a number a head; a dense layer its input, gate, up,
/// silu(gate) and their product; a merged one its input and, but for the reference kernel, gate and
/// up, and so does a dense one in tiles. A part that is rebuilt keeps its input alone.
LayerActivations activation_bytes_per_token(const RunConfig& config) {
  const ModelConfig& model = config.model;
  const int64_t D = model.hidden_size, bytes = compute_bytes(config);
  const int64_t q = model.num_heads * model.head_size(), kv = model.kv_heads() * model.head_size();
  const bool is_reference = form_of(config) == Form::kReference;
  const int64_t norm = is_reference ? 2 * D * kFloat : bytes * D, input = bytes * D;
  const int64_t unnormed = model.qk_norm != QkNorm::kNone ? bytes * (q + kv) : 0;
  // Documents' outputs are kept as attention gave them and once more as rows.
  const int64_t joined = model.attention_scope == Scope::kDocument ? bytes * q : 0;
  const int64_t attention =
      norm + unnormed + bytes * (D + 2 * q + 2 * kv) + joined + kFloat * model.num_heads;
  const int64_t dense_products = is_tiled(config) ? 2 : 4;
  const int64_t products = !model.is_merged() ? dense_products : is_reference ? 0 : 2;
  const int64_t feed_forward = norm + bytes * (D + products * model.ffn_size);
  switch (config.train.activation_checkpointing) {
    case ActivationCheckpointing::kNone:
      return {attention + feed_forward, 0};
    case ActivationCheckpointing::kAttention:
      return {input + feed_forward, attention};
    case ActivationCheckpointing::kFfn:
      return {attention + input, feed_forward};
    case ActivationCheckpointing::kBlock:
      return {input, attention + feed_forward};
  }
  return {};
}

/// Of a micro-batch. Documents cut it further, into how many is not known.
std::vector<int64_t> segment_offsets(const RunConfig& config) {
  const ModelConfig& model = config.model;
  return make_segment_layout(model.feed_forward, config.train.micro_batch, model.context_length, {})
      .offsets;
}

/// Numbers in all experts of a layer; a dense one is a single expert.
int64_t expert_numbers(const ModelConfig& model) {
  const int64_t E = model.is_merged() ? model.feed_forward.num_experts : 1;
  return 3 * E * model.hidden_size * model.ffn_size;
}

/// The height of merged_ffn_backward_reference (src/ops).
void add_reference_workspace(const RunConfig& config, MemoryPlan& memory) {
  const ModelConfig& model = config.model;
  const int64_t F = model.ffn_size, bytes = compute_bytes(config);
  const bool is_cast = bytes != kFloat;
  const std::vector<int64_t> offsets = segment_offsets(config);
  const auto G = static_cast<int64_t>(offsets.size()) - 1;
  int64_t longest = 0;
  for (int64_t g = 0; g < G; ++g) longest = std::max(longest, offsets[g + 1] - offsets[g]);
  const int64_t C = model.feed_forward.segment_scope == Scope::kDocument
                        ? ops::kSegmentsMergedAtOnce  // at most
                        : std::min(G, ops::kSegmentsMergedAtOnce);
  // Eight tensors in fp32 (gate, up, sigmoid, silu, the gradient of h, and three on the way to the
  // gradient of the gate) and two in the compute dtype.
  const int64_t products = longest * F * (8 * kFloat + 2 * bytes);
  const int64_t merged = C * 3 * F * model.hidden_size * (bytes + kFloat) + products;
  // When the merged weights are gone the sums are cast to the experts' dtype.
  memory.merge_workspace = std::max(merged, is_cast ? expert_numbers(model) * bytes : 0);
  memory.expert_copies = is_cast ? expert_numbers(model) * kFloat : 0;
}

/// The slabs of the CUDA kernels, and what they keep of a layer meanwhile.
int64_t slab_workspace(const RunConfig& config) {
  const ModelConfig& model = config.model;
  return ops::slab_workspace_bytes(segment_offsets(config), model.hidden_size, model.ffn_size,
                                   model.feed_forward.num_experts, compute_bytes(config), kFloat);
}

/// What the tiled operator's workspace stays below. Experts are merged from their fp32 masters.
int64_t tiled_workspace(const RunConfig& config) {
  const ModelConfig& model = config.model;
  const int64_t E = model.is_merged() ? model.feed_forward.num_experts : 1;
  const int64_t threads =
      config.train.threads > 0 ? config.train.threads : std::thread::hardware_concurrency();
  return ops::tiled_workspace_bound(config.train.micro_batch * model.context_length,
                                    model.hidden_size, model.ffn_size, E, kFloat, threads);
}

/// What merged_ffn's backward takes of one layer.
void add_merged_ffn(const RunConfig& config, MemoryPlan& memory) {
  memory.expert_gradients = expert_numbers(config.model) * kFloat;
  switch (form_of(config)) {
    case Form::kReference:
      return add_reference_workspace(config, memory);
    case Form::kTiled:
      memory.merge_workspace = tiled_workspace(config);
      return;
    case Form::kSlabs:
      memory.merge_workspace = slab_workspace(config);
      return;
  }
}

/// bf16 copies of attention's weights, and of a dense layer's that is not tiled; experts are merged
/// from their masters, and so is what ops::linear multiplies by loops of its own.
int64_t copy_bytes(const RunConfig& config, const ParameterCount& parameters) {
  if (config.train.precision != Precision::kBf16 || multiplies_masters(config)) return 0;
  return 2 * (parameters.attention + (is_tiled(config) ? 0 : parameters.feed_forward));
}

/// Logits and their gradient: of all tokens by the reference kernel, else of a chunk of them, in
/// place; and the head's weight in bf16.
int64_t logit_bytes(const RunConfig& config, int64_t tokens) {
  const int64_t V = config.model.vocab_size, bytes = compute_bytes(config);
  const bool is_reference = form_of(config) == Form::kReference;
  const int64_t rows = is_reference ? tokens : std::min(tokens, ops::cross_entropy_chunk(V));
  if (multiplies_masters(config)) return rows * V * 2 * kFloat;  // as rows and as columns
  const int64_t copy = bytes == kFloat ? 0 : bytes * V * config.model.hidden_size;
  return rows * V * (is_reference ? 2 * kFloat + bytes : bytes) + copy;
}

/// Of the head's weight, summed in fp32, and of all hidden states; where our loops multiply, of a
/// chunk's weight too. By the reference kernel the graph has them when the logits are gone.
int64_t head_gradient_bytes(const RunConfig& config, int64_t tokens) {
  if (form_of(config) == Form::kReference) return 0;
  const int64_t D = config.model.hidden_size, weight = kFloat * config.model.vocab_size * D;
  return weight * (multiplies_masters(config) ? 2 : 1) + tokens * D * compute_bytes(config);
}

/// What shards hold besides: memory that goes from one unit to the next of its size
/// (lorikeet/parallel/sharded_parameters.h). Two units have gradients at once, from stage 3 on two
/// have parameters too, and the head, or an embedding that serves as one, keeps its own meanwhile.
int64_t whole_unit_bytes(const RunConfig& config, const ParameterCount& parameters) {
  const ParallelConfig& parallel = config.parallel;
  if (parallel.shard <= 1 || parallel.zero < 2) return 0;
  const ModelConfig& model = config.model;
  const int64_t embedding = model.vocab_size * model.hidden_size;
  const int64_t blocks = parameters.total() - parameters.embeddings;
  const int64_t two_blocks = blocks / model.num_layers * std::min<int64_t>(model.num_layers, 2);
  const bool is_zero3 = parallel.zero == 3;
  const int64_t gathered_blocks = is_zero3 ? two_blocks : 0;
  const int64_t with_head = embedding * (is_zero3 ? 2 : 1);
  return kFloat *
         (two_blocks + gathered_blocks + with_head + (model.tie_embeddings ? 0 : embedding));
}

}  // namespace

MemoryPlan plan_memory(const RunConfig& config, const ParameterCount& parameters) {
  const ParallelConfig& parallel = config.parallel;
  const int64_t total = parameters.total(), shard = std::max<int64_t>(parallel.shard, 1);
  const auto held = [&](int64_t bytes, int64_t from_zero_stage) {
    return parallel.zero >= from_zero_stage ? (bytes + shard - 1) / shard : bytes;
  };
  const int64_t tokens = config.train.micro_batch * config.model.context_length;
  const LayerActivations layer = activation_bytes_per_token(config);
  MemoryPlan memory;
  memory.program = config.train.device == DeviceChoice::kCpu ? kProgram : 0;
  memory.parameters = held(total * kFloat, 3);
  memory.gradients = held(total * kFloat, 2);
  memory.whole_units = whole_unit_bytes(config, parameters);
  memory.optimizer = held(2 * total * kFloat, 1);
  memory.compute_copies = copy_bytes(config, parameters);
  // The last norm's input and the hidden states that the loss is computed from.
  memory.activations = tokens * (config.model.num_layers * layer.kept +
                                 2 * compute_bytes(config) * config.model.hidden_size);
  memory.recomputed = tokens * layer.rebuilt;
  memory.logits = logit_bytes(config, tokens);
  memory.head_gradients = head_gradient_bytes(config, tokens);
  // In tiles a dense layer goes the same way.
  if (config.model.is_merged() || is_tiled(config)) add_merged_ffn(config, memory);
  return memory;
}

}  // namespace lorikeet
