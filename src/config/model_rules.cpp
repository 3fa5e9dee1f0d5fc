#include <fmt/format.h>

#include <cmath>

#include "lorikeet/config/validate.h"
#include "rules.h"
#include "schema.h"

namespace lorikeet {
namespace {

using Problems = std::vector<Problem>;

constexpr double kMostParameters = 1152921504606846976.0;  // 2^60

void check_heads(const ModelConfig& model, Problems& problems) {
  const int64_t heads = model.num_heads;
  if (model.head_dim == 0 && model.hidden_size % heads != 0) {
    problems.push_back(
        {.keys = {"model.hidden_size", "model.num_heads"},
         .value = fmt::format("{}", model.hidden_size),
         .rule = fmt::format("is not a multiple of model.num_heads {}", heads),
         .hint = multiples_hint(2 * heads, model.hidden_size) + ", or set model.head_dim"});
    return;
  }
  if (model.head_size() % 2 != 0) {
    const bool is_given = model.head_dim > 0;
    problems.push_back(
        {.keys = {is_given ? "model.head_dim" : "model.hidden_size", "model.num_heads"},
         .value = fmt::format("{}", is_given ? model.head_dim : model.hidden_size),
         .rule = is_given
                     ? "is odd, and rotary embeddings turn pairs"
                     : fmt::format("over model.num_heads {} makes heads of {}, an odd size, and "
                                   "rotary embeddings turn pairs",
                                   heads, model.head_size()),
         .hint = is_given ? multiples_hint(2, model.head_dim)
                          : multiples_hint(2 * heads, model.hidden_size)});
  }
}

void check_kv_heads(const ModelConfig& model, Problems& problems) {
  if (model.num_heads % model.kv_heads() == 0) return;
  problems.push_back({.keys = {"model.num_kv_heads", "model.num_heads"},
                      .value = fmt::format("{}", model.num_kv_heads),
                      .rule = fmt::format("does not divide model.num_heads {}", model.num_heads),
                      .hint = divisors_hint(model.num_heads, model.num_kv_heads)});
}

void check_segments(const ModelConfig& model, Problems& problems) {
  const FeedForwardConfig& ffn = model.feed_forward;
  if (ffn.routing == Routing::kSequence) return;  // one decision for all: there are no segments
  const std::string key = "model.feed_forward.segment_length";
  const int64_t context = model.context_length;
  const bool must_divide = ffn.segment_scope == Scope::kContext;
  if (ffn.segment_length > context) {
    problems.push_back({.keys = {key, "model.context_length"},
                        .value = fmt::format("{}", ffn.segment_length),
                        .rule = fmt::format("is more than model.context_length {}", context),
                        .hint = divisors_hint(context, ffn.segment_length)});
  } else if (must_divide && context % ffn.segment_length != 0) {
    problems.push_back({.keys = {key, "model.context_length"},
                        .value = fmt::format("{}", ffn.segment_length),
                        .rule = fmt::format("does not divide model.context_length {}", context),
                        .hint = divisors_hint(context, ffn.segment_length)});
  }
  const bool leaks =
      ffn.segment_scope == Scope::kDocument && ffn.first_segment == FirstSegment::kSelfStopGradient;
  if (leaks) {
    problems.push_back(
        {.keys = {"model.feed_forward.first_segment", "model.feed_forward.segment_scope"},
         .value = to_string(ffn.first_segment),
         .rule = "would let tokens see later ones in every document, with "
                 "model.feed_forward.segment_scope document",
         .hint = "use uniform or learned"});
  }
}

void check_router_init(const ModelConfig& model, Problems& problems) {
  const FeedForwardConfig& ffn = model.feed_forward;
  if (ffn.router_init_std > 0 || ffn.expert_init != ExpertInit::kCopied) return;
  problems.push_back(
      {.keys = {"model.feed_forward.router_init_std", "model.feed_forward.expert_init"},
       .value = "0",
       .rule = "with model.feed_forward.expert_init copied never tells the experts "
               "apart: equal experts give the router no gradient",
       .hint = "use 0.02"});
}

void check_smear(const ModelConfig& model, Problems& problems) {
  const FeedForwardConfig& ffn = model.feed_forward;
  if (ffn.routing == Routing::kSequence) return;
  const auto refuse = [&](bool is_set, const char* key, const std::string& value) {
    if (!is_set) return;
    problems.push_back(
        {.keys = {std::string("model.feed_forward.smear.") + key, "model.feed_forward.routing"},
         .value = value,
         .rule = "is for model.feed_forward.routing sequence, not " + to_string(ffn.routing),
         .hint = "remove it, or set routing: sequence"});
  };
  refuse(ffn.smear.input_norm, "input_norm", "true");
  refuse(ffn.smear.router_norm, "router_norm", "true");
  refuse(ffn.smear.router_bias, "router_bias", "true");
  refuse(ffn.smear.expert_dropout > 0, "expert_dropout",
         fmt::format("{}", ffn.smear.expert_dropout));
}

void check_total_size(const ModelConfig& model, Problems& problems) {
  const double parameters = approximate_parameters(model);
  if (parameters < kMostParameters) return;
  problems.push_back({.keys = {"model", "model.hidden_size", "model.ffn_size", "model.num_layers",
                               "model.feed_forward.num_experts"},
                      .value = "",
                      .rule = fmt::format("{:.1e} parameters are more than 2^60", parameters),
                      .hint = "make it smaller"});
}

}  // namespace

std::string divisors_hint(int64_t n, int64_t value) {
  int64_t below = 0;
  int64_t above = 0;
  for (int64_t d = 1; d <= n / d; ++d) {
    if (n % d != 0) continue;
    for (const int64_t divisor : {d, n / d}) {
      if (divisor <= value && divisor > below) below = divisor;
      if (divisor >= value && (above == 0 || divisor < above)) above = divisor;
    }
  }
  if (below == 0) return fmt::format("use {}", above);
  return above == 0 ? fmt::format("use {}", below) : fmt::format("use {} or {}", below, above);
}

std::string multiples_hint(int64_t n, int64_t value) {
  const int64_t below = value / n * n;
  return below == 0 ? fmt::format("use {}", n) : fmt::format("use {} or {}", below, below + n);
}

double approximate_parameters(const ModelConfig& model) {
  const auto hidden = static_cast<double>(model.hidden_size);
  const double heads = 2.0 * static_cast<double>(model.num_heads + model.kv_heads());
  const double attention = hidden * heads * static_cast<double>(model.head_size());
  const double experts =
      model.is_merged() ? static_cast<double>(model.feed_forward.num_experts) : 1;
  const double ffn = 3.0 * hidden * static_cast<double>(model.ffn_size) * experts;
  const double embeddings = 2.0 * hidden * static_cast<double>(model.vocab_size);
  return static_cast<double>(model.num_layers) * (attention + ffn) + embeddings;
}

std::vector<Problem> model_rule_problems(const ModelConfig& model) {
  Problems problems;
  check_heads(model, problems);
  check_kv_heads(model, problems);
  if (model.is_merged()) {
    check_segments(model, problems);
    check_router_init(model, problems);
    check_smear(model, problems);
  }
  check_total_size(model, problems);
  return problems;
}

std::vector<Problem> range_problems(const ModelConfig& model) {
  RangeChecker checker("model");
  ModelConfig copy = model;
  describe(checker, copy);
  return checker.problems;
}

void validate(const ModelConfig& model, const std::string& where, ExitCode code) {
  Problems problems = range_problems(model);
  if (problems.empty()) problems = model_rule_problems(model);
  for (Problem& problem : problems) problem.where = where;
  if (!problems.empty()) throw_problems(problems, code);
}

}  // namespace lorikeet
