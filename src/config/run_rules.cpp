#include <fmt/format.h>

#include <algorithm>

#include "lorikeet/config/validate.h"
#include "rules.h"
#include "schema.h"

namespace lorikeet {
namespace {

using Problems = std::vector<Problem>;

// Products up to these leave room in 64 bits for what is derived from them.
constexpr double kMostRunTokens = 1152921504606846976.0;  // 2^60
constexpr double kMostBytes = 4611686018427387904.0;      // 2^62
constexpr double kBytesOfAParameter = 16;  // weight, gradient and two moments, in fp32
constexpr double kBytesOfAnActivation = 16;

void check_length(const RunConfig& config, Problems& problems) {
  const bool has_tokens = config.train.tokens.value > 0;
  const bool has_steps = config.train.steps > 0;
  if (has_tokens != has_steps) return;
  problems.push_back({.keys = {"train.tokens", "train.steps"},
                      .value = has_tokens ? to_string(config.train.tokens) : "",
                      .rule = has_tokens
                                  ? fmt::format("and train.steps {} both give the run's length",
                                                config.train.steps)
                                  : "the run has no length",
                      .hint = has_tokens ? "remove one of them, or set it to 0"
                                         : "set train.tokens (such as 10M) or train.steps"});
}

/// Each rank takes whole micro-batches of a step. With replicate auto, at least those of one copy.
void check_ranks(const RunConfig& config, Problems& problems) {
  const TrainConfig& train = config.train;
  const ParallelConfig& parallel = config.parallel;
  const int64_t ranks = std::max<int64_t>(1, parallel.replicate) * parallel.shard * parallel.slice;
  const int64_t together = train.micro_batch * ranks;  // each factor is at most 2^20
  if (train.batch_sequences % together == 0) return;
  const std::string multiples = together <= schema::kMostSequences
                                    ? multiples_hint(together, train.batch_sequences) + ", or "
                                    : "use ";
  problems.push_back(
      {.keys = {"train.batch_sequences", "train.micro_batch", "parallel.replicate",
                "parallel.shard"},
       .value = fmt::format("{}", train.batch_sequences),
       .rule = fmt::format("is not a multiple of {}: train.micro_batch {} x {} ranks of parallel",
                           together, train.micro_batch, ranks),
       .hint = multiples + "fewer ranks or a smaller train.micro_batch"});
}

void check_batch(const RunConfig& config, Problems& problems) {
  const TrainConfig& train = config.train;
  if (train.batch_sequences % train.micro_batch == 0) return check_ranks(config, problems);
  const bool is_larger = train.micro_batch > train.batch_sequences;
  problems.push_back(
      {.keys = {"train.micro_batch", "train.batch_sequences"},
       .value = fmt::format("{}", train.micro_batch),
       .rule = fmt::format("{} train.batch_sequences {}",
                           is_larger ? "is more than" : "does not divide", train.batch_sequences),
       .hint = divisors_hint(train.batch_sequences, train.micro_batch)});
}

void check_dense_warmup(const RunConfig& config, Problems& problems) {
  const Period& warmup = config.train.dense_warmup;
  if (warmup.is_never()) return;
  const auto refuse = [&](const char* other, const std::string& rule, const std::string& hint) {
    problems.push_back({.keys = {"train.dense_warmup", other},
                        .value = to_string(warmup),
                        .rule = rule,
                        .hint = hint});
  };
  if (!config.model.is_merged()) {
    refuse("model.feed_forward.kind",
           "needs experts to copy the dense layers into, and "
           "model.feed_forward.kind is dense",
           "remove it, or set kind: merged");
    return;
  }
  if (config.model.feed_forward.router_init_std == 0) {
    refuse("model.feed_forward.router_init_std",
           "with model.feed_forward.router_init_std 0 never tells the copied experts apart: equal "
           "experts give the router no gradient",
           "set model.feed_forward.router_init_std: 0.02");
  }
  const int64_t steps = warmup.to_steps(total_steps(config), tokens_per_step(config));
  if (steps < total_steps(config)) return;
  refuse("train.steps",
         fmt::format("leaves no step of {} for the experts", with_separators(total_steps(config))),
         "use 5%");
}

void check_schedule(const RunConfig& config, Problems& problems) {
  const ScheduleConfig& schedule = config.schedule;
  const int64_t total = total_steps(config);
  const auto steps = [&](const Period& p) { return p.to_steps(total, tokens_per_step(config)); };
  const bool has_decay = schedule.kind == ScheduleKind::kWarmupStableDecay;
  const int64_t warmup = steps(schedule.warmup);
  const int64_t decay = has_decay ? steps(schedule.decay) : 0;
  const int64_t anneal = steps(schedule.anneal);
  if (warmup <= total - decay - anneal) return;  // each is at most 10^15: no overflow
  std::string parts = fmt::format("({} steps)", with_separators(warmup));
  if (decay > 0) parts += fmt::format(", schedule.decay ({})", with_separators(decay));
  if (anneal > 0) parts += fmt::format(", schedule.anneal ({})", with_separators(anneal));
  problems.push_back(
      {.keys = {"schedule.warmup", "schedule.decay", "schedule.anneal", "train.steps",
                "train.tokens"},
       .value = to_string(schedule.warmup),
       .rule = fmt::format("{} do not fit in the run of {} steps", parts, with_separators(total)),
       .hint = "make them shorter, such as schedule.warmup 5%, or the run longer"});
}

void check_run_tokens(const RunConfig& config, Problems& problems) {
  const double total = static_cast<double>(tokens_per_step(config)) *  // at most 2^48
                       static_cast<double>(total_steps(config));
  if (total <= kMostRunTokens) return;
  problems.push_back(
      {.keys = {"train.steps", "train.batch_sequences", "model.context_length"},
       .value = fmt::format("{}", config.train.steps),
       .rule = fmt::format("steps of {} tokens are more than 2^60 tokens",
                           with_separators(tokens_per_step(config))),
       .hint = "use fewer steps, or a smaller train.batch_sequences or model.context_length"});
}

void check_memory(const RunConfig& config, Problems& problems) {
  const ModelConfig& model = config.model;
  const double tokens =
      static_cast<double>(config.train.micro_batch) * static_cast<double>(model.context_length);
  const auto width = static_cast<double>(model.hidden_size + model.ffn_size + model.vocab_size);
  const double activations = tokens * width * static_cast<double>(model.num_layers);
  const double bytes =
      approximate_parameters(model) * kBytesOfAParameter + activations * kBytesOfAnActivation;
  if (bytes <= kMostBytes) return;
  problems.push_back(
      {.keys = {"model", "model.context_length", "train.micro_batch", "model.hidden_size",
                "model.ffn_size", "model.vocab_size", "model.num_layers",
                "model.feed_forward.num_experts"},
       .value = "",
       .rule = fmt::format("{:.1e} bytes of weights and activations are more than 2^62", bytes),
       .hint = "make model.context_length, train.micro_batch or the model smaller"});
}

}  // namespace

int64_t tokens_per_step(const RunConfig& config) {
  return config.train.batch_sequences * config.model.context_length;
}

int64_t total_steps(const RunConfig& config) {
  if (config.train.steps > 0) return config.train.steps;
  const int64_t tokens = config.train.tokens.value;
  const int64_t each = tokens_per_step(config);
  const int64_t rest = tokens % each;
  const int64_t nearest_steps = tokens / each + (rest >= each - rest ? 1 : 0);
  return std::max<int64_t>(1, nearest_steps);
}

std::vector<Problem> range_problems(const RunConfig& config) {
  RangeChecker checker;
  RunConfig copy = config;
  describe(checker, copy);
  return checker.problems;
}

std::vector<Problem> run_rule_problems(const RunConfig& config) {
  Problems problems = model_rule_problems(config.model);
  if (problems.empty()) check_memory(config, problems);  // not the same absurd model twice
  check_length(config, problems);
  const bool has_length = config.train.tokens.value > 0 || config.train.steps > 0;
  check_batch(config, problems);
  if (!has_length) return problems;
  check_run_tokens(config, problems);
  check_dense_warmup(config, problems);
  check_schedule(config, problems);
  return problems;
}

void validate(const RunConfig& config) {
  Problems problems = range_problems(config);
  if (problems.empty()) problems = run_rule_problems(config);
  if (!problems.empty()) throw_problems(problems);
}

}  // namespace lorikeet
