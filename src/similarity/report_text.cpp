#include <fmt/format.h>

#include "lorikeet/config/quantity.h"
#include "lorikeet/similarity/order_report.h"

namespace lorikeet {

namespace {

void add_quality(const OrderReport& report, std::string& text) {
  const OrderQuality& a = report.similar;
  const OrderQuality& b = report.random;
  const auto row = [&](const std::string& what, const std::string& similar,
                       const std::string& random) {
    text += fmt::format("  {:<44} {:>12} {:>12}\n", what, similar, random);
  };
  row("", "this order", "random");
  row("mean cosine of consecutive documents", fmt::format("{:.4f}", a.mean_cosine),
      fmt::format("{:.4f}", b.mean_cosine));
  row("path weight", fmt::format("{:.1f}", a.path_weight), fmt::format("{:.1f}", b.path_weight));
  row("jumps", with_separators(static_cast<int64_t>(a.num_jumps)),
      with_separators(static_cast<int64_t>(b.num_jumps)));
  row(fmt::format("contexts of {} tokens with one domain", report.options.context_length),
      fmt::format("{:.1f}%", 100 * a.one_domain_share),
      fmt::format("{:.1f}%", 100 * b.one_domain_share));
  row("domains a context", fmt::format("{:.2f}", a.domains_a_context),
      fmt::format("{:.2f}", b.domains_a_context));
}

void add_path(const OrderReport& report, std::string& text) {
  const double weight = std::max(report.similar.path_weight, 1e-12);
  text += fmt::format("  path after Or-opt and 2-opt: weight {:.1f} ({:+.2f}%)\n",
                      report.improved_weight, 100 * (report.improved_weight / weight - 1));
  for (const auto& [shards, sharded] : report.sharded_weights) {
    text += fmt::format("  greedy paths of {} parts, joined: weight {:.1f} ({:+.2f}%)\n", shards,
                        sharded, 100 * (sharded / weight - 1));
  }
  const OptimumCheck& check = report.optimum;
  if (check.num_graphs > 0) {
    text += fmt::format(
        "  {} graphs of {} documents: greedy / optimum {:.4f} (worst {:.4f}), improved {:.4f}\n",
        check.num_graphs, check.num_rows, check.greedy_ratio, check.worst_ratio,
        check.improved_ratio);
  }
}

void add_filtered(const OrderReport& report, std::string& text) {
  if (!report.has_filters) {
    text += "filters: not asked\n";
    return;
  }
  text +=
      fmt::format("filters: what they find is {}\n", report.drops_filtered ? "dropped" : "kept");
  for (size_t i = 1; i < kNumFilters; ++i) {
    text += fmt::format("  {}: {} documents, {} tokens\n", describe(static_cast<Filter>(i)),
                        with_separators(report.filtered_documents[i]),
                        with_separators(report.filtered_tokens[i]));
  }
  for (const FilterExample& example : report.filtered) {
    text += fmt::format("  {}  {}: {}\n", describe(example.filter), example.domain, example.title);
  }
}

void add_duplicates(const OrderReport& report, std::string& text) {
  if (report.num_duplicates < 0) {
    text += "duplicates: not looked for\n";
    return;
  }
  text += fmt::format(
      "duplicates: {} documents, {} tokens, {}\n", with_separators(report.num_duplicates),
      with_separators(report.num_duplicate_tokens), report.drops_duplicates ? "dropped" : "kept");
  for (const DuplicateExample& example : report.duplicates) {
    text += fmt::format("  cosine {:.2f} Jaccard {:.2f}  {}  =  {}\n", example.cosine,
                        example.jaccard, example.copy, example.original);
  }
}

}  // namespace

std::string to_text(const OrderReport& report) {
  std::string text =
      fmt::format("order of {} documents of {}, by {}\n", with_separators(report.num_documents),
                  report.folder, report.options.encoder);
  add_quality(report, text);
  add_path(report, text);
  text += fmt::format(
      "neighbour graph: {} edges; degree least {}, 10% {}, median {}, 90% {}, most {}\n",
      with_separators(report.num_edges), report.degrees[0], report.degrees[1], report.degrees[2],
      report.degrees[3], report.degrees[4]);
  text += fmt::format("recall@{} of the search: {:.4f} on {} documents\n", report.recall_at,
                      report.recall, report.recall_rows);
  add_filtered(report, text);
  add_duplicates(report, text);
  text += "titles in a row:\n";
  for (const std::vector<ReportRow>& stretch : report.stretches) {
    for (const ReportRow& row : stretch) {
      text += fmt::format("  {:.2f}  {:<14} {}\n", row.cosine, row.domain, row.title);
    }
    text += "\n";
  }
  return text;
}

}  // namespace lorikeet
