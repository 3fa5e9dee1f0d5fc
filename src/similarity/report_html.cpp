// The report as one page: style, text and plots are all in it, so it can be sent and kept.
#include <fmt/format.h>

#include <algorithm>

#include "lorikeet/config/quantity.h"
#include "lorikeet/core/html_page.h"
#include "lorikeet/similarity/order_report.h"

namespace lorikeet {

namespace {

// Shares of the values in each bin, several series over each other.
std::string histogram_plot(const std::vector<std::pair<std::string, const Histogram*>>& series) {
  double most = 0;
  for (const auto& [style, histogram] : series) {
    double total = 0;
    for (const int64_t count : histogram->counts) total += static_cast<double>(count);
    const auto largest = *std::max_element(histogram->counts.begin(), histogram->counts.end());
    most = std::max(most, 100 * static_cast<double>(largest) / std::max(1.0, total));
  }
  most = std::max(most, 1e-9);
  const Histogram& first = *series[0].second;
  Plot plot({first.low, first.high}, {0, most}, "%");
  for (const auto& [style, histogram] : series) {
    double total = 0;
    for (const int64_t count : histogram->counts) total += static_cast<double>(count);
    const double bin_width =
        (first.high - first.low) / static_cast<double>(histogram->counts.size());
    for (size_t bin = 0; bin < histogram->counts.size(); ++bin) {
      const double share = 100 * static_cast<double>(histogram->counts[bin]) / std::max(1.0, total);
      const double low = first.low + bin_width * static_cast<double>(bin);
      plot.add(fmt::format(
          "<rect class=\"{}\" fill-opacity=\"0.7\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" "
          "height=\"{:.1f}\"/>\n",
          style, plot.x(low), plot.y(share), plot.x(low + bin_width) - plot.x(low) - 1,
          plot.y(0) - plot.y(share)));
    }
  }
  return plot.svg();
}

// Path weights beside each other, as shares of the first.
std::string weight_plot(const OrderReport& report) {
  std::vector<std::pair<std::string, double>> bars = {{"this order", report.similar.path_weight},
                                                      {"improved", report.improved_weight}};
  for (const auto& [shards, weight] : report.sharded_weights) {
    bars.emplace_back(fmt::format("{} parts", shards), weight);
  }
  bars.emplace_back("random", report.random.path_weight);
  double most = 1e-9;
  for (const auto& [name, weight] : bars) most = std::max(most, weight);
  const double step = (Plot::kHeight - Plot::kTop) / static_cast<double>(bars.size());
  const double left = 80;
  const double room = Plot::kWidth - left - 60;
  std::string svg =
      fmt::format("<svg viewBox=\"0 0 {} {}\" role=\"img\">\n", Plot::kWidth, Plot::kHeight);
  for (size_t i = 0; i < bars.size(); ++i) {
    const double y = Plot::kTop + step * static_cast<double>(i);
    const double width = room * bars[i].second / most;
    svg += fmt::format(
        "<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text><rect class=\"{}\" x=\"{}\" "
        "y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\"/><text x=\"{:.1f}\" y=\"{:.1f}\">{:.1f}"
        "</text>\n",
        left - 6, y + step / 2 + 2, bars[i].first, i + 1 == bars.size() ? "b" : "a", left, y, width,
        step - 6, left + width + 6, y + step / 2 + 2, bars[i].second);
  }
  return svg + "</svg>\n";
}

std::string row(const std::string& what, const std::string& a, const std::string& b) {
  return fmt::format("<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>\n", what,
                     a, b);
}

std::string quality_table(const OrderReport& report) {
  const OrderQuality& a = report.similar;
  const OrderQuality& b = report.random;
  std::string html =
      "<table><tr><th></th><th class=\"n\">this order</th><th class=\"n\">random</th></tr>\n";
  html += row("mean cosine of consecutive documents", fmt::format("{:.4f}", a.mean_cosine),
              fmt::format("{:.4f}", b.mean_cosine));
  html += row("path weight", fmt::format("{:.1f}", a.path_weight),
              fmt::format("{:.1f}", b.path_weight));
  html += row("jumps (steps along no edge)", with_separators(static_cast<int64_t>(a.num_jumps)),
              with_separators(static_cast<int64_t>(b.num_jumps)));
  html += row(fmt::format("contexts of {} tokens with one domain",
                          with_separators(report.options.context_length)),
              fmt::format("{:.1f}%", 100 * a.one_domain_share),
              fmt::format("{:.1f}%", 100 * b.one_domain_share));
  html += row("domains a context", fmt::format("{:.2f}", a.domains_a_context),
              fmt::format("{:.2f}", b.domains_a_context));
  return html + "</table>\n";
}

std::string filters_table(const OrderReport& report) {
  std::string html = "<h2>Filters</h2>\n";
  if (!report.has_filters) {
    return html + "<p>Not asked.</p>\n";
  }
  html += fmt::format("<p>What they find is {}:", report.drops_filtered ? "left out" : "kept");
  for (size_t i = 1; i < kNumFilters; ++i) {
    html +=
        fmt::format("{} {} documents ({} tokens) for {}", i > 1 ? "," : "",
                    with_separators(report.filtered_documents[i]),
                    with_separators(report.filtered_tokens[i]), describe(static_cast<Filter>(i)));
  }
  html += ".</p>\n<table>\n";
  for (const FilterExample& example : report.filtered) {
    html += fmt::format("<tr><td>{}</td><td>{}</td><td class=\"title\">{}</td></tr>\n",
                        describe(example.filter), escape_html(example.domain),
                        escape_html(example.title));
  }
  return html + "</table>\n";
}

std::string duplicates_table(const OrderReport& report) {
  std::string html = "<h2>Duplicates</h2>\n";
  if (report.num_duplicates < 0) {
    return html + "<p>Not looked for.</p>\n";
  }
  html += fmt::format("<p>{} documents ({} tokens) repeat an earlier one; they are {}.</p>\n",
                      with_separators(report.num_duplicates),
                      with_separators(report.num_duplicate_tokens),
                      report.drops_duplicates ? "left out of the order" : "kept");
  if (report.duplicates.empty()) {
    return html;
  }
  html +=
      "<table><tr><th class=\"n\">cosine</th><th class=\"n\">Jaccard</th><th>document</th>"
      "<th>repeats</th></tr>\n";
  for (const DuplicateExample& example : report.duplicates) {
    html += fmt::format(
        "<tr><td class=\"n\">{:.2f}</td><td class=\"n\">{:.2f}</td><td>{}</td><td>{}</td></tr>\n",
        example.cosine, example.jaccard, escape_html(example.copy), escape_html(example.original));
  }
  return html + "</table>\n";
}

std::string titles_table(const OrderReport& report) {
  std::string html =
      "<h2>Titles in a row</h2>\n<p class=\"note\">Stretches of the order; the cosine is that with "
      "the row above.</p>\n<table>\n";
  for (const std::vector<ReportRow>& stretch : report.stretches) {
    for (size_t i = 0; i < stretch.size(); ++i) {
      html += fmt::format(
          "<tr{}><td class=\"n\">{:.2f}</td><td>{}</td><td class=\"title\">{}</td></tr>\n",
          i + 1 == stretch.size() ? " class=\"gap\"" : "", stretch[i].cosine,
          escape_html(stretch[i].domain), escape_html(stretch[i].title));
    }
  }
  return html + "</table>\n";
}

std::string facts(const OrderReport& report) {
  std::string html = fmt::format(
      "<p>The graph has {} edges; degrees: least {}, a tenth below {}, median {}, a tenth above "
      "{}, most {}. Recall@{} of the search against brute force on {} documents: {:.4f}.</p>\n",
      with_separators(report.num_edges), report.degrees[0], report.degrees[1], report.degrees[2],
      report.degrees[3], report.degrees[4], report.recall_at, report.recall_rows, report.recall);
  const OptimumCheck& check = report.optimum;
  if (check.num_graphs > 0) {
    html += fmt::format(
        "<p>On {} graphs of {} neighbouring documents the greedy path has {:.4f} of the exact "
        "optimum's weight on average, {:.4f} at worst, and {:.4f} improved by Or-opt and "
        "2-opt.</p>\n",
        check.num_graphs, check.num_rows, check.greedy_ratio, check.worst_ratio,
        check.improved_ratio);
  }
  return html;
}

}  // namespace

std::string to_html(const OrderReport& report) {
  std::string html = fmt::format("<p class=\"note\">{} documents of {}, by {}</p>\n",
                                 with_separators(report.num_documents), escape_html(report.folder),
                                 escape_html(report.options.encoder));
  html += quality_table(report);
  html +=
      "<div class=\"plots\"><div><h2>Cosine of consecutive documents</h2>"
      "<p class=\"note\"><span class=\"key\" style=\"background:#0b7a75\"></span> this order "
      "<span class=\"key\" style=\"background:#d08c2b\"></span> random</p>\n";
  html += histogram_plot({{"b", &report.random.cosines}, {"a", &report.similar.cosines}});
  html +=
      "</div><div><h2>Degrees in the neighbour graph</h2>"
      "<p class=\"note\">share of the documents</p>\n";
  html += histogram_plot({{"a", &report.degree_histogram}});
  html +=
      "</div><div><h2>Path weight</h2><p class=\"note\">of this order, improved, walked in "
      "parts, and at random</p>\n";
  html += weight_plot(report);
  html += "</div></div>\n" + facts(report) + filters_table(report) + duplicates_table(report) +
          titles_table(report);
  return html_page("Document order", html);
}

}  // namespace lorikeet
