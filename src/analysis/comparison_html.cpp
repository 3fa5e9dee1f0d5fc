// A comparison as one page.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "comparison_tables.h"
#include "lorikeet/core/html_page.h"

namespace lorikeet {

namespace {

using Points = std::vector<std::pair<double, double>>;

/// A setting's line: mean over its seeds, and the band that they fill.
struct Series {
  Points mean, low, high;
  SeriesStyle style;
};

constexpr size_t kPoints = 60;

/// @param value of a run at a place of the x axis; NaN where it has none
Series series_of(const ComparedSetting& setting, double most,
                 const std::function<double(const ComparedRun&, double)>& value) {
  Series series;
  for (size_t i = 0; i <= kPoints; ++i) {
    const double at = most * static_cast<double>(i) / kPoints;
    std::vector<double> values;
    for (const auto& run : setting.runs) {
      if (!run.is_left_out) values.push_back(value(run, at));
    }
    const Spread spread = spread_of(values);
    // Where a seed is missing the mean of the others would jump.
    const bool is_whole = !values.empty() && spread.count == static_cast<int64_t>(values.size());
    series.mean.emplace_back(at, is_whole ? spread.mean : std::numeric_limits<double>::quiet_NaN());
    if (!is_whole) continue;
    series.low.emplace_back(at, spread.low);
    series.high.emplace_back(at, spread.high);
  }
  return series;
}

void scale(Points& points, double factor) {
  for (auto& [at, value] : points) at *= factor;
}

/// The range of what is drawn; the first fifth's high losses would leave no room for differences.
Plot::Range range_of(const std::vector<Series>& all, double from) {
  Plot::Range range{std::numeric_limits<double>::infinity(),
                    -std::numeric_limits<double>::infinity()};
  for (const auto& series : all) {
    for (const auto* points : {&series.low, &series.high}) {
      for (const auto& [at, value] : *points) {
        if (at < from || !std::isfinite(value)) continue;
        range.low = std::min(range.low, value);
        range.high = std::max(range.high, value);
      }
    }
  }
  if (!std::isfinite(range.low)) return {0, 1};
  const double margin = std::max(1e-3, 0.05 * (range.high - range.low));
  return {range.low - margin, range.high + margin};
}

void drop_before(Points& points, double from) {
  points.erase(points.begin(), std::find_if(points.begin(), points.end(), [=](const auto& point) {
                 return point.first >= from;
               }));
}

/// @param unit how much of the x axis is one in its numbers
std::string plot(
    const std::vector<ComparedSetting>& settings, double most, double unit,
    const std::function<double(const ComparedSetting&, const ComparedRun&, double)>& value,
    double from_share) {
  std::vector<Series> all;
  for (size_t i = 0; i < settings.size(); ++i) {
    all.push_back(series_of(settings[i], most, [&](const ComparedRun& run, double at) {
      return value(settings[i], run, at);
    }));
    all.back().style = series_style(i);
  }
  const double from = from_share * most;
  const Plot::Range y = range_of(all, from);
  Plot plot({from / unit, most / unit}, y);
  for (auto& series : all) {
    for (auto* points : {&series.mean, &series.low, &series.high}) {
      drop_before(*points, from);
      scale(*points, 1 / unit);
    }
    if (series.low.size() > 1) plot.band(series.low, series.high, series.style.colour);
  }
  for (const auto& series : all) plot.line(series.mean, series.style);
  return plot.svg();
}

std::string key(const std::vector<ComparedSetting>& settings) {
  std::string html = "<p class=\"note\">";
  for (size_t i = 0; i < settings.size(); ++i) {
    html += fmt::format("{} {} ", series_key(series_style(i)), escape_html(settings[i].name));
  }
  return html + "</p>\n";
}

std::string figure(const std::string& title, const std::string& note, const std::string& svg) {
  return fmt::format("<div><h2>{}</h2><p class=\"note\">{}</p>\n{}</div>\n", title, note, svg);
}

double most_of(const std::vector<ComparedSetting>& settings, double RunCurve::Validation::*axis) {
  double most = 0;
  for (const auto& setting : settings) {
    for (const auto& run : setting.runs) {
      for (const auto& validation : run.curve.validations) {
        most = std::max(most, validation.*axis);
      }
    }
  }
  return most;
}

std::string curves(const Comparison& comparison, const std::vector<ComparedSetting>& settings) {
  const double tokens = most_of(settings, &RunCurve::Validation::tokens);
  const double seconds = most_of(settings, &RunCurve::Validation::seconds);
  const double time_unit = seconds > 7200 ? 3600 : 60;
  const std::string time_name = seconds > 7200 ? "hours" : "minutes";
  const double token_unit = tokens >= 1e10 ? 1e9 : 1e6;
  const std::string token_name = tokens >= 1e10 ? "billion tokens" : "million tokens";
  const ComparedSetting& reference = find_reference(settings, comparison.reference);
  const auto by_tokens = [](const auto&, const ComparedRun& run, double at) {
    return run.curve.loss_at_tokens(at);
  };
  const auto over_reference = [&](const std::string& domain) {
    return [&, domain](const auto&, const ComparedRun& run, double at) {
      const ComparedRun* other = partner(reference, run.seed);
      return other ? run.curve.loss_at_tokens(at, domain) - other->curve.loss_at_tokens(at, domain)
                   : std::numeric_limits<double>::quiet_NaN();
    };
  };
  std::string html = "<div class=\"plots\">";
  html += figure("Validation loss", "mean over domains, by " + token_name,
                 plot(settings, tokens, token_unit, by_tokens, 0.2));
  html +=
      figure("Validation loss by time", "mean over domains, by " + time_name + " of training steps",
             plot(
                 settings, seconds, time_unit,
                 [](const auto&, const ComparedRun& run, double at) {
                   return run.curve.loss_at_seconds(at);
                 },
                 0.2));
  html += figure("Over " + escape_html(comparison.reference),
                 "difference of validation losses, seed by seed, by " + token_name,
                 plot(settings, tokens, token_unit, over_reference("mean"), 0.2));
  html += figure("Training loss", "mean over a twentieth of the run, by " + token_name,
                 plot(
                     settings, tokens, token_unit,
                     [&](const auto&, const ComparedRun& run, double at) {
                       return at > run.curve.tokens() * 1.0001
                                  ? std::numeric_limits<double>::quiet_NaN()
                                  : run.curve.training_loss(at, tokens / 20);
                     },
                     0.1));
  for (const auto& domain : domains_of(comparison)) {
    html +=
        figure(fmt::format("Over {}: {}", escape_html(comparison.reference), escape_html(domain)),
               "difference of validation losses in this domain, by " + token_name,
               plot(settings, tokens, token_unit, over_reference(domain), 0.2));
  }
  return html + "</div>\n";
}

/// The first column is text, the others are numbers.
std::string html_table(const Table& rows) {
  std::string html = "<table>";
  for (size_t i = 0; i < rows.size(); ++i) {
    const char* tag = i == 0 ? "th" : "td";
    html += "<tr>";
    for (size_t j = 0; j < rows[i].size(); ++j) {
      html += fmt::format("<{0}{1}>{2}</{0}>", tag, j == 0 ? "" : " class=\"n\"",
                          escape_html(rows[i][j]));
    }
    html += "</tr>\n";
  }
  return html + "</table>\n";
}

std::string settings_table(const Comparison& comparison) {
  std::string html = "<h2>What differs</h2>\n<table>\n";
  for (const auto& r : comparison.settings) {
    std::string all;
    for (const auto& difference : r.differences) all += escape_html(difference) + "<br>";
    for (const auto& remark : r.remarks) all += escape_html(remark) + "<br>";
    html += fmt::format("<tr><td>{}</td><td>{}</td></tr>\n", escape_html(r.name), all);
  }
  return html + "</table>\n";
}

}  // namespace

std::string to_html(const Comparison& comparison, const std::vector<ComparedSetting>& settings) {
  std::string html;
  for (const auto& line : legend(comparison)) {
    html += fmt::format("<p class=\"note\">{}</p>\n", escape_html(line));
  }
  html += html_table(main_table(comparison)) + key(settings) + curves(comparison, settings);
  html += fmt::format(
      "<h2>By domain</h2><p class=\"note\">loss of {}, and what the others have over it</p>\n{}",
      escape_html(comparison.reference), html_table(domain_table(comparison)));
  return html_page("Comparison of runs", html + settings_table(comparison));
}

}  // namespace lorikeet
