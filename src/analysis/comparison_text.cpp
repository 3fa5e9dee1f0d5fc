// A comparison as text and as JSON.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "comparison_tables.h"

namespace lorikeet {

namespace {

/// Rows of cells as aligned columns, the first to the left. Counts characters, not bytes: "±".
std::string aligned(const Table& rows) {
  const auto width = [](const std::string& text) {
    return static_cast<size_t>(
        std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
  };
  std::vector<size_t> widths(rows[0].size());
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
  }
  std::string text;
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string pad(widths[i] - width(row[i]), ' ');
      text += i == 0 ? row[i] + pad : "  " + pad + row[i];
    }
    text += '\n';
  }
  return text;
}

/// NaN has no place in JSON.
nlohmann::json number(double value) {
  return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json(nullptr);
}

nlohmann::ordered_json to_json(const Spread& spread) {
  return {{"mean", number(spread.mean)},
          {"deviation", number(spread.deviation)},
          {"low", number(spread.low)},
          {"high", number(spread.high)},
          {"seeds", spread.count}};
}

nlohmann::ordered_json to_json(const std::map<std::string, Spread>& spreads) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const auto& [domain, spread] : spreads) json[domain] = to_json(spread);
  return json;
}

nlohmann::ordered_json to_json(const SettingResult& r) {
  return {{"name", r.name},
          {"differences", r.differences},
          {"parameters", r.total_parameters},
          {"active_parameters", r.active_parameters},
          {"seeds", r.num_seeds},
          {"remarks", r.remarks},
          {"loss", to_json(r.loss)},
          {"loss_difference", to_json(r.loss_difference)},
          {"loss_at_equal_time", to_json(r.loss_at_time)},
          {"difference_at_equal_time", to_json(r.difference_at_time)},
          {"tokens_to_reference", to_json(r.tokens_to_reference)},
          {"training_loss", to_json(r.training_loss)},
          {"first_segment_loss", to_json(r.first_segment_loss)},
          {"tokens_per_second", to_json(r.tokens_per_second)},
          {"domains", to_json(r.domains)},
          {"domain_differences", to_json(r.domain_differences)}};
}

nlohmann::ordered_json to_json(const ComparedRun& run) {
  auto validations = nlohmann::ordered_json::array(), steps = nlohmann::ordered_json::array();
  for (const auto& v : run.curve.validations) {
    nlohmann::ordered_json losses = nlohmann::ordered_json::object();
    for (const auto& [domain, loss] : v.losses) losses[domain] = number(loss);
    validations.push_back({{"tokens", v.tokens}, {"seconds", v.seconds}, {"losses", losses}});
  }
  for (const auto& s : run.curve.steps) {
    steps.push_back({s.tokens, s.seconds, number(s.loss), number(s.first_segment_loss)});
  }
  return {{"name", run.name},
          {"seed", run.seed},
          {"state", run.state},
          {"left_out", run.is_left_out},
          {"validations", validations},
          {"step_columns", {"tokens", "seconds", "loss", "first_segment_loss"}},
          {"steps", steps}};
}

}  // namespace

std::string to_text(const Comparison& comparison) {
  std::string text = aligned(main_table(comparison));
  for (const auto& line : legend(comparison)) text += line + '\n';
  text += fmt::format("\nloss by domain of {}, and what the others have over it\n{}\n",
                      comparison.reference, aligned(domain_table(comparison)));
  for (const auto& r : comparison.settings) {
    if (!r.differences.empty()) {
      text += fmt::format("{}: {}\n", r.name, fmt::join(r.differences, ", "));
    }
    for (const auto& remark : r.remarks) text += fmt::format("note: {}: {}\n", r.name, remark);
  }
  return text;
}

std::string to_json(const Comparison& comparison, const std::vector<ComparedSetting>& settings) {
  nlohmann::ordered_json json{{"reference", comparison.reference},
                              {"equal_tokens", comparison.equal_tokens},
                              {"equal_seconds", comparison.equal_seconds},
                              {"settings", nlohmann::ordered_json::array()}};
  for (size_t i = 0; i < comparison.settings.size(); ++i) {
    auto setting = to_json(comparison.settings[i]);
    setting["runs"] = nlohmann::ordered_json::array();
    for (const auto& run : settings[i].runs) setting["runs"].push_back(to_json(run));
    json["settings"].push_back(std::move(setting));
  }
  return json.dump(1) + '\n';
}

}  // namespace lorikeet
