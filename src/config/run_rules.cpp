#include <fmt/format.h>

#include "lorikeet/config/validate.h"
#include "rules.h"
#include "schema.h"

namespace lorikeet {
namespace {

using Problems = std::vector<Problem>;

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
                                         : "set train.tokens (such as 10M) or train.steps",
                      .where = ""});
}

void check_batch(const RunConfig& config, Problems& problems) {
  const TrainConfig& train = config.train;
  if (train.batch_sequences % train.micro_batch == 0) return;
  const bool is_larger = train.micro_batch > train.batch_sequences;
  problems.push_back(
      {.keys = {"train.micro_batch", "train.batch_sequences"},
       .value = fmt::format("{}", train.micro_batch),
       .rule = fmt::format("{} train.batch_sequences {}",
                           is_larger ? "is more than" : "does not divide", train.batch_sequences),
       .hint = divisors_hint(train.batch_sequences, train.micro_batch),
       .where = ""});
}

void check_dense_warmup(const RunConfig& config, Problems& problems) {
  const Period& warmup = config.train.dense_warmup;
  if (warmup.is_never()) return;
  const auto refuse = [&](const char* other, const std::string& rule, const std::string& hint) {
    problems.push_back({.keys = {"train.dense_warmup", other},
                        .value = to_string(warmup),
                        .rule = rule,
                        .hint = hint,
                        .where = ""});
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
       .hint = "make them shorter, such as schedule.warmup 5%, or the run longer",
       .where = ""});
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
  check_length(config, problems);
  const bool has_length = config.train.tokens.value > 0 || config.train.steps > 0;
  check_batch(config, problems);
  if (!has_length) return problems;
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
