#include "lorikeet/analysis/plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "lorikeet/model/flops.h"
#include "memory.h"

namespace lorikeet {

namespace {

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

namespace {

/// Replicas add up with an all-reduce, shards with a reduce-scatter and gather what they lack.
WirePlan plan_wire(const RunConfig& config, const RunPlan& plan) {
  constexpr int64_t kFloat = 4;
  const ParallelConfig& parallel = config.parallel;
  const int64_t S = parallel.zero == 0 ? 1 : parallel.shard, R = plan.ranks / S;
  const int64_t k = plan.accumulation, all = plan.parameters.total() * kFloat;
  const auto others = [](int64_t bytes, int64_t ranks) { return bytes / ranks * (ranks - 1); };
  WirePlan wire;
  wire.gradients = others(all, S) * (parallel.zero >= 2 ? k : 1) + 2 * others(all / S, R);
  // The embedding and the head are gathered once a pass: docs/parallel.md.
  const int64_t both_passes = 2 * all - plan.parameters.embeddings * kFloat;
  wire.parameters = others(parallel.zero == 3 ? k * both_passes : all, S);
  return wire;
}

}  // namespace

std::vector<MemoryKind> by_kind(const MemoryPlan& m) {
  std::vector<MemoryKind> kinds;
  for (const MemoryKind& kind : {
           MemoryKind{"program and libraries", m.program, "estimate"},
           MemoryKind{"parameters", m.parameters, "fp32"},
           MemoryKind{"gradients", m.gradients, "fp32"},
           MemoryKind{"whole units", m.whole_units, "fp32, in use, and their gradients"},
           MemoryKind{"optimizer", m.optimizer, "two fp32 moments"},
           MemoryKind{"bf16 copies", m.compute_copies, ""},
           MemoryKind{"activations", m.activations, "estimate"},
           MemoryKind{"logits", m.logits, "estimate, while the loss is computed"},
           MemoryKind{"gradients of the head", m.head_gradients, "while the loss is computed"},
           MemoryKind{"recomputed activations", m.recomputed, "estimate, of one layer"},
           MemoryKind{"merged weights", m.merge_workspace, "working memory of one layer, at most"},
           MemoryKind{"expert copies", m.expert_copies, "fp32, of one layer"},
           MemoryKind{"expert gradients", m.expert_gradients, "fp32, of one layer"},
       }) {
    if (kind.bytes > 0) kinds.push_back(kind);
  }
  return kinds;
}

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
  plan.wire = plan_wire(config, plan);
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

  table.section(config.train.device == DeviceChoice::kCpu ? "memory of one rank on a CPU"
                                                          : "memory of one rank on a GPU");
  for (const MemoryKind& kind : by_kind(plan.memory)) {
    table.row(kind.name, gigabytes(kind.bytes), kind.note);
  }
  table.row("total", gigabytes(plan.memory.total()), "while the loss is computed, or one layer");

  if (plan.ranks > 1) {
    table.section("what a rank sends in a step");
    table.row("gradients", gigabytes(plan.wire.gradients), "fp32");
    table.row("parameters", gigabytes(plan.wire.parameters), "fp32");
  }

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
