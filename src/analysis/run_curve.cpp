#include "lorikeet/analysis/run_curve.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "lorikeet/core/error.h"
#include "lorikeet/core/file.h"
#include "lorikeet/core/json_problem.h"

namespace lorikeet {

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

double between(double at, double x0, double y0, double x1, double y1) {
  return x1 > x0 ? y0 + (y1 - y0) * (at - x0) / (x1 - x0) : y1;
}

double loss_of(const RunCurve::Validation& validation, const std::string& domain) {
  const auto found = validation.losses.find(domain);
  return found == validation.losses.end() ? kNan : found->second;
}

/// @param axis tokens or seconds of a validation
double loss_at(const RunCurve& curve, double RunCurve::Validation::*axis, double at,
               const std::string& domain) {
  for (size_t i = 0; i < curve.validations.size(); ++i) {
    const auto& here = curve.validations[i];
    if (here.*axis < at) continue;
    if (here.*axis == at) return loss_of(here, domain);
    if (i == 0) return kNan;
    const auto& before = curve.validations[i - 1];
    return between(at, before.*axis, loss_of(before, domain), here.*axis, loss_of(here, domain));
  }
  return kNan;
}

double window_mean(const RunCurve& curve, double RunCurve::Step::*value, double tokens,
                   double window) {
  double sum = 0;
  int64_t count = 0;
  for (const auto& step : curve.steps) {
    if (step.tokens > tokens - window && step.tokens <= tokens && std::isfinite(step.*value)) {
      sum += step.*value;
      ++count;
    }
  }
  return count > 0 ? sum / static_cast<double>(count) : kNan;
}

double number(const nlohmann::json& row, const char* key) {
  const auto found = row.find(key);
  return found != row.end() && found->is_number() ? found->get<double>() : kNan;
}

void add_step(RunCurve& curve, const nlohmann::json& row) {
  RunCurve::Step step;
  step.step = row.at("step").get<double>();
  step.tokens = row.at("tokens").get<double>();
  step.loss = number(row, "loss");
  step.first_segment_loss = number(row, "first_segment_loss");
  const double rate = number(row, "tokens_per_second");
  const double taken = rate > 0 ? (step.tokens - curve.tokens()) / rate : 0;
  step.seconds = curve.seconds() + taken;
  curve.steps.push_back(step);
}

/// Validations know their step alone. One that has no domain, since nothing was held out, is none.
void add_validation(std::map<double, RunCurve::Validation>& found, const nlohmann::json& row) {
  RunCurve::Validation validation;
  for (const auto& [domain, loss] : row.at("validation").items()) {
    validation.losses[domain] = loss.is_number() ? loss.get<double>() : kNan;
  }
  // A run that was finished twice validates its last step twice.
  if (!validation.losses.empty()) found[row.at("step").get<double>()] = std::move(validation);
}

/// Tokens and seconds at a step: on the line between the rows around it, or on with the last two.
/// Rows may be many steps apart, and the batch may have changed on the way.
void place(const std::vector<RunCurve::Step>& steps, double step,
           RunCurve::Validation& validation) {
  const RunCurve::Step origin;
  const auto after =
      std::find_if(steps.begin(), steps.end(), [=](const auto& row) { return row.step >= step; });
  const size_t i = static_cast<size_t>(after - steps.begin());
  const size_t right = std::min(i, steps.size() - 1);
  const RunCurve::Step& b = steps[right];
  const RunCurve::Step& a = right > 0 ? steps[right - 1] : origin;
  validation.tokens = std::round(between(step, a.step, a.tokens, b.step, b.tokens));
  validation.seconds = between(step, a.step, a.seconds, b.step, b.seconds);
}

}  // namespace

double RunCurve::tokens_per_second() const { return seconds() > 0 ? tokens() / seconds() : kNan; }

double RunCurve::training_loss(double tokens, double window) const {
  return window_mean(*this, &Step::loss, tokens, window);
}

double RunCurve::first_segment_loss(double tokens, double window) const {
  return window_mean(*this, &Step::first_segment_loss, tokens, window);
}

double RunCurve::loss_at_tokens(double tokens, const std::string& domain) const {
  return loss_at(*this, &Validation::tokens, tokens, domain);
}

double RunCurve::loss_at_seconds(double seconds, const std::string& domain) const {
  return loss_at(*this, &Validation::seconds, seconds, domain);
}

double RunCurve::tokens_until(double loss) const {
  for (size_t i = 0; i < validations.size(); ++i) {
    const double here = loss_of(validations[i], "mean");
    if (!(here <= loss)) continue;
    if (i == 0) return validations[i].tokens;
    // Losses fall, and between() wants an axis that grows.
    return between(-loss, -loss_of(validations[i - 1], "mean"), validations[i - 1].tokens, -here,
                   validations[i].tokens);
  }
  return kNan;
}

RunCurve read_run_curve(const std::string& folder) {
  const std::string path = folder + "/metrics.jsonl";
  if (!std::filesystem::exists(path)) {
    throw Error(ExitCode::kUsage, path + " does not exist: the run has not begun",
                "`lorikeet compare` without --no-run trains it");
  }
  std::istringstream lines(read_text_file(path, ExitCode::kCheckpoint));
  RunCurve curve;
  std::map<double, RunCurve::Validation> validations;
  int64_t number_of_line = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number_of_line;
    if (line.empty()) continue;
    try {
      const auto row = nlohmann::json::parse(line);
      if (row.contains("validation")) {
        add_validation(validations, row);
      } else {
        add_step(curve, row);
      }
    } catch (const nlohmann::json::exception& problem) {
      if (lines.eof()) break;  // a line that was being written when the run was killed
      throw Error(ExitCode::kCheckpoint,
                  fmt::format("{}:{}: not a row of metrics: it {}", path, number_of_line,
                              json_problem(problem)),
                  "a run that goes on cuts the file back to its checkpoint");
    }
  }
  for (auto& [step, validation] : validations) {
    if (curve.steps.empty()) break;  // nothing tells how many tokens that was
    place(curve.steps, step, validation);
    curve.validations.push_back(std::move(validation));
  }
  return curve;
}

}  // namespace lorikeet
