#include "lorikeet/analysis/comparison.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include "lorikeet/config/load.h"
#include "lorikeet/core/error.h"
#include "lorikeet/core/nearest.h"
#include "lorikeet/model/parameter_count.h"

namespace lorikeet {

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

std::vector<std::string> differences(const RunConfig& config, const RunConfig& reference) {
  const auto mine = config_entries(config), theirs = config_entries(reference);
  std::vector<std::string> found;
  for (const auto& [key, value] : mine) {
    const auto other = theirs.find(key);
    if (key == "name" || key == "seed" || key == "output") continue;
    if (other == theirs.end() || other->second != value) {
      found.push_back(fmt::format("{}: {}", key, value));
    }
  }
  for (const auto& [key, value] : theirs) {
    if (!mine.contains(key)) found.push_back(key + ": absent");
  }
  return found;
}

/// A value of each run that has not diverged, and how far it lies from the reference's of its seed.
struct Pairs {
  std::vector<double> values, differences;

  template <class Value>
  Pairs(const ComparedSetting& setting, const ComparedSetting& reference, const Value& value) {
    for (const auto& run : setting.runs) {
      if (run.is_left_out) continue;
      const double mine = value(run.curve);
      values.push_back(mine);
      const ComparedRun* other = partner(reference, run.seed);
      differences.push_back(other ? mine - value(other->curve) : kNan);
    }
  }
};

/// Keys that decide what a run is validated on.
constexpr std::array<const char*, 4> kValidationKeys = {"data.shards", "model.context_length",
                                                        "evaluate.batches", "train.micro_batch"};

std::vector<std::string> remarks(const ComparedSetting& setting, const ComparedSetting& reference) {
  std::vector<std::string> found;
  for (const auto& run : setting.runs) {
    if (run.state == "finished") continue;
    found.push_back(
        fmt::format("{} is {}{}", run.name, run.state, run.is_left_out ? ", and left out" : ""));
  }
  const auto mine = config_entries(setting.config), theirs = config_entries(reference.config);
  for (const char* key : kValidationKeys) {
    if (mine.at(key) == theirs.at(key)) continue;
    found.push_back(fmt::format("validated on other contexts than {} ({}: {}, not {})",
                                reference.name, key, mine.at(key), theirs.at(key)));
  }
  return found;
}

SettingResult result_of(const ComparedSetting& setting, const ComparedSetting& reference,
                        const Comparison& comparison) {
  const double tokens = comparison.equal_tokens, seconds = comparison.equal_seconds;
  const auto pairs = [&](const auto& value) { return Pairs(setting, reference, value); };
  SettingResult result;
  result.name = setting.name;
  result.differences = differences(setting.config, reference.config);
  const ParameterCount parameters = count_parameters(setting.config.model);
  result.total_parameters = parameters.total();
  result.active_parameters = parameters.active();
  result.remarks = remarks(setting, reference);
  result.segment_length = setting.config.model.feed_forward.segment_length;
  result.num_seeds = static_cast<int64_t>(setting.runs.size());
  const Pairs loss = pairs([&](const RunCurve& c) { return c.loss_at_tokens(tokens); });
  result.loss = spread_of(loss.values);
  result.loss_difference = spread_of(loss.differences);
  const Pairs timed = pairs([&](const RunCurve& c) { return c.loss_at_seconds(seconds); });
  result.loss_at_time = spread_of(timed.values);
  result.difference_at_time = spread_of(timed.differences);
  const double window = tokens / 20;
  result.training_loss =
      spread_of(pairs([&](const RunCurve& c) { return c.training_loss(tokens, window); }).values);
  result.first_segment_loss = spread_of(
      pairs([&](const RunCurve& c) { return c.first_segment_loss(tokens, window); }).values);
  result.tokens_per_second =
      spread_of(pairs([](const RunCurve& c) { return c.tokens_per_second(); }).values);
  std::vector<double> until;
  for (const auto& run : setting.runs) {
    const ComparedRun* other = partner(reference, run.seed);
    if (run.is_left_out || !other) continue;
    ++result.num_pairs;
    until.push_back(run.curve.tokens_until(other->curve.loss_at_tokens(tokens)));
  }
  result.tokens_to_reference = spread_of(until);
  std::set<std::string> domains;
  for (const auto& run : setting.runs) {
    if (run.curve.validations.empty()) continue;
    for (const auto& [domain, value] : run.curve.validations.back().losses) domains.insert(domain);
  }
  for (const auto& domain : domains) {
    if (domain == "mean") continue;
    const Pairs of = pairs([&](const RunCurve& c) { return c.loss_at_tokens(tokens, domain); });
    result.domains[domain] = spread_of(of.values);
    result.domain_differences[domain] = spread_of(of.differences);
  }
  return result;
}

}  // namespace

const ComparedSetting& find_reference(const std::vector<ComparedSetting>& settings,
                                      const std::string& name) {
  std::vector<std::string> names;
  for (const auto& setting : settings) {
    if (name.empty() ? !setting.config.model.is_merged() : setting.name == name) return setting;
    names.push_back(setting.name);
  }
  if (name.empty()) return settings.at(0);
  const std::string near = nearest(name, names);
  throw Error(ExitCode::kUsage, fmt::format("--against {}: no configuration has this name", name),
              near.empty() ? fmt::format("one of {}", fmt::join(names, ", "))
                           : fmt::format("did you mean {}?", near));
}

const ComparedRun* partner(const ComparedSetting& reference, int64_t seed) {
  for (const auto& run : reference.runs) {
    if (run.seed == seed && !run.is_left_out) return &run;
  }
  return nullptr;
}

Spread spread_of(const std::vector<double>& values) {
  std::vector<double> finite;
  for (const double value : values) {
    if (std::isfinite(value)) finite.push_back(value);
  }
  if (finite.empty()) return {kNan, kNan, kNan, kNan};
  const auto [low, high] = std::minmax_element(finite.begin(), finite.end());
  const auto count = static_cast<double>(finite.size());
  const double mean = std::accumulate(finite.begin(), finite.end(), 0.0) / count;
  double squares = 0;
  for (const double value : finite) squares += (value - mean) * (value - mean);
  const double deviation = finite.size() > 1 ? std::sqrt(squares / (count - 1)) : 0;
  return {mean, deviation, *low, *high, static_cast<int64_t>(finite.size())};
}

Comparison compare(const std::vector<ComparedSetting>& settings, const std::string& reference) {
  const ComparedSetting& against = find_reference(settings, reference);
  Comparison comparison;
  comparison.reference = against.name;
  comparison.equal_tokens = comparison.equal_seconds = std::numeric_limits<double>::infinity();
  for (const auto& setting : settings) {
    for (const auto& run : setting.runs) {
      if (run.is_left_out) continue;
      if (run.curve.validations.empty()) {
        throw Error(ExitCode::kUsage, run.name + ": has not been validated yet",
                    "it takes part from its first validation on (evaluate.every)");
      }
      const auto& last = run.curve.validations.back();
      comparison.equal_tokens = std::min(comparison.equal_tokens, last.tokens);
      comparison.equal_seconds = std::min(comparison.equal_seconds, last.seconds);
    }
  }
  if (!std::isfinite(comparison.equal_tokens)) {
    throw Error(ExitCode::kDiverged, "all runs have diverged or failed: nothing can be compared",
                "their log.txt says where and why");
  }
  for (const auto& setting : settings) {
    comparison.settings.push_back(result_of(setting, against, comparison));
  }
  return comparison;
}

}  // namespace lorikeet
