#include "lorikeet/analysis/plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "lorikeet/model/flops.h"

namespace lorikeet {

namespace {

constexpr int64_t kFloat = 4;

int64_t compute_bytes(const RunConfig& config) {
  return config.train.precision == Precision::kBf16 ? 2 : kFloat;
}

/// What the graph keeps of one layer for one token, from the operators as they are written
/// (src/model, src/ops): a norm keeps its fp32 input and scaled input; attention its input, q, k, v
/// before and after RoPE, and its output; a dense layer its input, gate, up, silu(gate) and their
/// product; a merged one its input alone.
int64_t activation_bytes_per_token(const RunConfig& config) {
  const ModelConfig& model = config.model;
  const int64_t D = model.hidden_size, bytes = compute_bytes(config);
  const int64_t q = model.num_heads * model.head_size(), kv = model.kv_heads() * model.head_size();
  const int64_t norms = 2 * 2 * D * kFloat;
  const int64_t attention = bytes * (D + 2 * q + 3 * kv + 2 * q) + 2 * kFloat * (q + kv);
  const int64_t feed_forward = bytes * (model.is_merged() ? D : D + 4 * model.ffn_size);
  switch (config.train.activation_checkpointing) {
    case ActivationCheckpointing::kNone:
      return norms + attention + feed_forward;
    case ActivationCheckpointing::kAttention:
      return norms + bytes * D + feed_forward;
    case ActivationCheckpointing::kFfn:
      return norms + attention + bytes * D;
    case ActivationCheckpointing::kBlock:
      return bytes * D;
  }
  return 0;
}

MemoryPlan plan_memory(const RunConfig& config, const ParameterCount& parameters) {
  const ParallelConfig& parallel = config.parallel;
  const int64_t total = parameters.total(), shard = std::max<int64_t>(parallel.shard, 1);
  const auto held = [&](int64_t bytes, int64_t from_zero_stage) {
    return parallel.zero >= from_zero_stage ? (bytes + shard - 1) / shard : bytes;
  };
  const int64_t tokens = config.train.micro_batch * config.model.context_length;
  MemoryPlan memory;
  memory.parameters = held(total * kFloat, 3);
  memory.gradients = held(total * kFloat, 2);
  memory.optimizer = held(2 * total * kFloat, 1);
  memory.compute_copies = config.train.precision == Precision::kBf16 ? total * 2 : 0;
  memory.activations = tokens * config.model.num_layers * activation_bytes_per_token(config);
  memory.logits = tokens * config.model.vocab_size * (2 * kFloat + compute_bytes(config));
  return memory;
}

std::string gigabytes(int64_t bytes) {
  return fmt::format("{:.3f} GB", static_cast<double>(bytes) / 1e9);
}

class Table {
 public:
  void section(const std::string& title) { text_ += (text_.empty() ? "" : "\n") + title + "\n"; }
  void row(const std::string& label, const std::string& value, const std::string& note = "") {
    text_ += fmt::format("  {:<28}{:>20}{}{}\n", label, value, note.empty() ? "" : "  ", note);
  }
  void row(const std::string& label, int64_t value, const std::string& note = "") {
    row(label, with_separators(value), note);
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

}  // namespace

RunPlan plan_run(const RunConfig& config) {
  RunPlan plan;
  plan.parameters = count_parameters(config.model);
  plan.memory = plan_memory(config, plan.parameters);
  const ParallelConfig& parallel = config.parallel;
  plan.ranks = std::max<int64_t>(parallel.replicate, 1) * parallel.shard * parallel.slice;
  plan.total_steps = total_steps(config);
  plan.tokens_per_step = tokens_per_step(config);
  const int64_t per_pass = config.train.micro_batch * plan.ranks;
  plan.accumulation = (config.train.batch_sequences + per_pass - 1) / per_pass;
  const auto steps = [&](const Period& period) {
    return period.is_never() ? 0 : period.to_steps(plan.total_steps, plan.tokens_per_step);
  };
  plan.warmup_steps = steps(config.schedule.warmup);
  plan.dense_warmup_steps = steps(config.train.dense_warmup);
  plan.flops_per_token = training_flops_per_token(config.model);
  return plan;
}

std::string to_text(const RunPlan& plan, const RunConfig& config) {
  Table table;
  const ParameterCount& p = plan.parameters;
  table.section("parameters");
  table.row("embeddings and head", p.embeddings);
  table.row("attention", p.attention);
  if (p.feed_forward > 0) table.row("feed-forward", p.feed_forward);
  if (p.experts > 0) {
    table.row("experts", p.experts, fmt::format("{} a layer", p.num_experts));
    table.row("routers", p.routers);
  }
  table.row("norms", p.norms);
  table.row("total", p.total());
  table.row("active a token", p.active());

  table.section("memory of one rank");
  table.row("parameters", gigabytes(plan.memory.parameters), "fp32");
  table.row("gradients", gigabytes(plan.memory.gradients), "fp32");
  table.row("optimizer", gigabytes(plan.memory.optimizer), "two fp32 moments");
  if (plan.memory.compute_copies > 0) {
    table.row("bf16 copies", gigabytes(plan.memory.compute_copies));
  }
  table.row("activations", gigabytes(plan.memory.activations), "estimate");
  table.row("logits", gigabytes(plan.memory.logits), "estimate");
  table.row("total", gigabytes(plan.memory.total()));

  table.section("batches");
  table.row("ranks", plan.ranks,
            config.parallel.replicate == 0 ? "replicate: auto counts as 1" : "");
  table.row("sequences a step", config.train.batch_sequences,
            fmt::format("of {} tokens", with_separators(config.model.context_length)));
  table.row("micro-batch", config.train.micro_batch);
  table.row("accumulation", plan.accumulation, "micro-batches a rank and step");
  table.row("tokens a step", plan.tokens_per_step);
  table.row("steps", plan.total_steps);
  table.row("tokens", plan.total_tokens());
  table.row("warm-up steps", plan.warmup_steps);
  if (plan.dense_warmup_steps > 0) table.row("dense warm-up steps", plan.dense_warmup_steps);
  table.row("GFLOP a token", fmt::format("{:.3f}", plan.flops_per_token / 1e9),
            "matrix products, forward and backward");
  return table.text();
}

}  // namespace lorikeet
