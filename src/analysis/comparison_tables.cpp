#include "comparison_tables.h"

#include <fmt/format.h>

#include <cmath>

#include "lorikeet/config/quantity.h"

namespace lorikeet {

namespace {

/// "5.4321 ±0.0040"; behind it how many of the seeds have a value, where not all do.
std::string cell(const Spread& spread, int64_t num_seeds, const char* format = "{:.4f}") {
  if (spread.count == 0) return "-";
  std::string text = fmt::format(fmt::runtime(format), spread.mean);
  if (spread.count > 1) text += fmt::format(" ±{:.4f}", spread.deviation);
  if (spread.count < num_seeds) text += fmt::format(" ({} of {})", spread.count, num_seeds);
  return text;
}

std::string difference_cell(const Spread& spread, const SettingResult& result) {
  return cell(spread, result.num_seeds, "{:+.4f}");
}

std::string tokens_needed_cell(const SettingResult& result, double equal_tokens) {
  if (result.num_pairs == 0) return "-";
  if (result.tokens_to_reference.count == 0) return "never";
  std::string text = fmt::format("{:.2f}", result.tokens_to_reference.mean / equal_tokens);
  if (result.tokens_to_reference.count < result.num_seeds) {
    text += fmt::format(" ({} of {})", result.tokens_to_reference.count, result.num_seeds);
  }
  return text;
}

}  // namespace

Table main_table(const Comparison& comparison) {
  Table rows = {{"", "seeds", "loss", "difference", "in equal time", "tokens needed", "training",
                 "first segment", "tokens/s", "parameters", "active"}};
  for (const auto& r : comparison.settings) {
    const bool is_reference = r.name == comparison.reference;
    rows.push_back(
        {r.name, std::to_string(r.num_seeds), cell(r.loss, r.num_seeds),
         is_reference ? "" : difference_cell(r.loss_difference, r),
         is_reference ? "" : difference_cell(r.difference_at_time, r),
         tokens_needed_cell(r, comparison.equal_tokens), cell(r.training_loss, r.num_seeds),
         fmt::format("{} of {} tokens", cell(r.first_segment_loss, r.num_seeds), r.segment_length),
         r.tokens_per_second.count == 0 ? "-"
                                        : with_separators(std::llround(r.tokens_per_second.mean)),
         with_separators(r.total_parameters), with_separators(r.active_parameters)});
  }
  return rows;
}

std::set<std::string> domains_of(const Comparison& comparison) {
  std::set<std::string> domains;
  for (const auto& r : comparison.settings) {
    for (const auto& [domain, loss] : r.domains) domains.insert(domain);
  }
  return domains;
}

Table domain_table(const Comparison& comparison) {
  const std::set<std::string> domains = domains_of(comparison);
  Table rows = {{""}};
  rows[0].insert(rows[0].end(), domains.begin(), domains.end());
  for (const auto& r : comparison.settings) {
    const bool is_reference = r.name == comparison.reference;
    auto& row = rows.emplace_back(std::vector<std::string>{r.name});
    for (const auto& domain : domains) {
      const auto& values = is_reference ? r.domains : r.domain_differences;
      const auto found = values.find(domain);
      row.push_back(found == values.end() ? "-"
                    : is_reference        ? cell(found->second, r.num_seeds)
                                          : difference_cell(found->second, r));
    }
  }
  return rows;
}

std::vector<std::string> legend(const Comparison& comparison) {
  return {
      fmt::format("validation loss, mean over domains, nats a token, after {} tokens; "
                  "difference: from {}, seed by seed",
                  with_separators(std::llround(comparison.equal_tokens)), comparison.reference),
      fmt::format("in equal time: the difference after {:.0f} s of training steps on the machine "
                  "that trained; tokens needed: until {}'s loss, as a share of the tokens",
                  comparison.equal_seconds, comparison.reference),
      "±: standard deviation over seeds"};
}

}  // namespace lorikeet
