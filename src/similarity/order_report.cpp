#include "lorikeet/similarity/order_report.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "lorikeet/data/permutation.h"
#include "lorikeet/data/tokenizer.h"
#include "parallel.h"

namespace lorikeet {

namespace {

constexpr uint64_t kRandomOrder = 5;
constexpr uint64_t kSample = 6;
constexpr size_t kMostPairs = 50'000;  // of a mean cosine; above it a sample of steps
constexpr size_t kExamples = 20;       // of filtered documents, of duplicates
constexpr int64_t kTitleTokens = 64;
constexpr size_t kTitleBytes = 90;

// The first line of a document, cut short.
std::string title_of(const Corpus& corpus, const Tokenizer& tokenizer, size_t row) {
  std::vector<int32_t> ids(
      static_cast<size_t>(std::min<int64_t>(corpus.info(row).num_tokens, kTitleTokens)));
  corpus.dataset->copy_tokens(corpus.documents[row], 0, ids);
  std::string text = tokenizer.decode(ids);
  text.erase(0, std::min(text.size(), text.find_first_not_of(" \t\r\n")));
  text = text.substr(0, text.find('\n'));
  std::replace_if(
      text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < ' '; }, ' ');
  if (text.size() > kTitleBytes) {
    size_t cut = kTitleBytes;
    while (cut > 0 && (static_cast<unsigned char>(text[cut]) & 0xc0) == 0x80) {
      --cut;  // not within a character
    }
    text = text.substr(0, cut) + "...";
  }
  return text;
}

void measure_cosines(const SimilarityOrder& order, const std::vector<uint32_t>& rows,
                     OrderQuality& quality) {
  if (rows.size() < 2) {
    return;
  }
  const size_t steps = rows.size() - 1;
  const size_t stride = std::max<size_t>(1, steps / kMostPairs);
  double sum = 0;
  int64_t count = 0;
  for (size_t i = 0; i < steps; i += stride) {
    const double cosine = order.vectors->similarity(rows[i], rows[i + 1]);
    quality.cosines.add(cosine);
    sum += cosine;
    ++count;
  }
  quality.mean_cosine = sum / static_cast<double>(count);
}

// Cut as training cuts them; the tail that fills no context is left out.
void measure_contexts(const SimilarityOrder& order, const std::vector<uint32_t>& rows,
                      int64_t context_length, OrderQuality& quality) {
  std::set<size_t> domains;
  int64_t filled = 0;
  int64_t contexts = 0;
  int64_t pure = 0;
  int64_t total_domains = 0;
  for (const uint32_t row : rows) {
    const DocumentInfo info = order.corpus->info(row);
    for (int64_t left = info.num_tokens; left > 0;) {
      const int64_t taken = std::min(left, context_length - filled);
      domains.insert(info.domain);
      filled += taken;
      left -= taken;
      if (filled == context_length) {
        ++contexts;
        pure += domains.size() == 1 ? 1 : 0;
        total_domains += static_cast<int64_t>(domains.size());
        domains.clear();
        filled = 0;
      }
    }
  }
  const auto count = static_cast<double>(std::max<int64_t>(1, contexts));
  quality.one_domain_share = static_cast<double>(pure) / count;
  quality.domains_a_context = static_cast<double>(total_domains) / count;
}

OrderQuality measure(const SimilarityOrder& order, const std::vector<uint32_t>& rows,
                     const ReportOptions& options) {
  OrderQuality quality;
  const Path path = measure_path(order.graph, rows);
  quality.path_weight = path.weight;
  quality.num_jumps = path.num_jumps;
  measure_cosines(order, rows, quality);
  measure_contexts(order, rows, options.context_length, quality);
  return quality;
}

std::vector<uint32_t> random_rows(const std::vector<uint32_t>& rows, uint64_t seed) {
  const Permutation shuffle(std::max<size_t>(1, rows.size()), derive_key({seed, kRandomOrder}));
  std::vector<uint32_t> sorted = rows;
  std::sort(sorted.begin(), sorted.end());
  std::vector<uint32_t> shuffled(rows.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    shuffled[i] = sorted[shuffle(i)];
  }
  return shuffled;
}

// The graph's edges among some rows, which are numbered from 0.
NeighbourGraph induced(const NeighbourGraph& graph, const std::vector<uint32_t>& rows) {
  std::map<uint32_t, uint32_t> number;
  for (const uint32_t row : rows) {
    number.emplace(row, static_cast<uint32_t>(number.size()));
  }
  NeighbourGraph small;
  for (const uint32_t row : rows) {
    for (const Neighbour& entry : graph.of(row)) {
      const auto found = number.find(entry.row);
      if (found != number.end()) {
        small.edges.push_back({.row = found->second, .score = entry.score});
      }
    }
    small.begins.push_back(small.edges.size());
  }
  return small;
}

OptimumCheck check_optimum(const SimilarityOrder& order, const ReportOptions& options) {
  constexpr size_t kRows = 12;
  constexpr int64_t kGraphs = 100;
  OptimumCheck check{.num_rows = kRows};
  const std::vector<uint32_t>& all = order.path.rows;
  const Permutation sample(std::max<size_t>(1, all.size()), derive_key({options.seed, kSample}));
  double greedy = 0;
  double improved = 0;
  for (size_t i = 0; i < all.size() && check.num_graphs < kGraphs; ++i) {
    std::vector<uint32_t> rows = {all[sample(i)]};
    for (const Neighbour& entry : order.graph.of(rows[0])) {
      if (rows.size() < kRows) {
        rows.push_back(entry.row);
      }
    }
    if (rows.size() < kRows) {
      continue;
    }
    const NeighbourGraph small = induced(order.graph, rows);
    const Path path = greedy_path(small, std::vector<bool>(kRows, true), options.seed);
    const double optimum = optimal_path_weight(small);
    greedy += path.weight / optimum;
    check.worst_ratio = std::min(check.worst_ratio, path.weight / optimum);
    improved += improve_path(small, path, 100).weight / optimum;
    ++check.num_graphs;
  }
  const auto count = static_cast<double>(std::max<int64_t>(1, check.num_graphs));
  check.greedy_ratio = greedy / count;
  check.improved_ratio = improved / count;
  return check;
}

void measure_recall(const SimilarityOrder& order, OrderReport& report) {
  constexpr double kMostComparisons = 2e7;
  const auto num_rows = static_cast<double>(order.neighbours.num_rows());
  const auto wanted = static_cast<size_t>(std::clamp(kMostComparisons / num_rows, 20.0, 500.0));
  const size_t count = std::min(wanted, order.neighbours.num_rows());
  const Permutation sample(std::max<size_t>(1, order.neighbours.num_rows()),
                           derive_key({report.options.seed, kSample}));
  const size_t num_nearest = std::min<size_t>(10, order.neighbours.k);
  std::vector<int64_t> found(count);
  std::vector<int64_t> expected(count);
  parallel_for_each(count, report.options.num_threads, [&](size_t i, size_t) {
    const size_t row = sample(i);
    const auto exact = order.vectors->exact_neighbours(row, num_nearest);
    const auto list = order.neighbours.of(row);
    for (const Neighbour& entry : exact) {
      const size_t nearest = std::min(list.size(), exact.size());
      found[i] += std::any_of(list.begin(), list.begin() + static_cast<int64_t>(nearest),
                              [&](const Neighbour& n) { return n.row == entry.row; });
    }
    expected[i] = static_cast<int64_t>(exact.size());
  });
  int64_t hits = 0;
  int64_t total = 0;
  for (size_t i = 0; i < count; ++i) {
    hits += found[i];
    total += expected[i];
  }
  report.recall_rows = static_cast<int64_t>(count);
  report.recall_at = num_nearest;
  report.recall = total == 0 ? 1 : static_cast<double>(hits) / static_cast<double>(total);
}

void measure_degrees(const SimilarityOrder& order, OrderReport& report) {
  std::vector<int64_t> degrees;
  for (const uint32_t row : order.path.rows) {
    degrees.push_back(static_cast<int64_t>(order.graph.degree(row)));
  }
  std::sort(degrees.begin(), degrees.end());
  for (const size_t percent : {0, 10, 50, 90, 100}) {
    report.degrees.push_back(degrees[(degrees.size() - 1) * percent / 100]);
  }
  report.degree_histogram = Histogram(0, std::max<double>(1, 1 + report.degrees.back()), 40);
  for (const int64_t degree : degrees) {
    report.degree_histogram.add(static_cast<double>(degree));
  }
  report.num_edges = static_cast<int64_t>(order.graph.num_edges());
}

void list_filtered(const SimilarityOrder& order, const Tokenizer& tokenizer, OrderReport& report) {
  report.has_filters = !order.filters.empty();
  report.drops_filtered = order.options.filters == FindingMode::kDrop;
  for (size_t row = 0; row < order.filters.size(); ++row) {
    const Filter filter = order.filters[row];
    if (filter == Filter::kNone) {
      continue;
    }
    const DocumentInfo info = order.corpus->info(row);
    ++report.filtered_documents[static_cast<size_t>(filter)];
    report.filtered_tokens[static_cast<size_t>(filter)] += info.num_tokens;
    if (report.filtered.size() < kExamples) {
      report.filtered.push_back({.filter = filter,
                                 .domain = order.corpus->dataset->domains()[info.domain].name,
                                 .title = title_of(*order.corpus, tokenizer, row)});
    }
  }
}

void list_duplicates(const SimilarityOrder& order, const Tokenizer& tokenizer,
                     OrderReport& report) {
  if (!order.duplicates) {
    return;
  }
  const Duplicates& duplicates = *order.duplicates;
  report.num_duplicates = 0;
  report.drops_duplicates = order.options.duplicates == FindingMode::kDrop;
  for (size_t row = 0; row < duplicates.original.size(); ++row) {
    const uint32_t original = duplicates.original[row];
    if (original == Neighbour::kNone) {
      continue;
    }
    ++report.num_duplicates;
    report.num_duplicate_tokens += order.corpus->info(row).num_tokens;
    if (report.duplicates.size() < kExamples) {
      report.duplicates.push_back({.original = title_of(*order.corpus, tokenizer, original),
                                   .copy = title_of(*order.corpus, tokenizer, row),
                                   .cosine = order.vectors->similarity(original, row),
                                   .jaccard = duplicates.jaccard[row]});
    }
  }
}

std::vector<ReportRow> stretch_at(const SimilarityOrder& order, const Tokenizer& tokenizer,
                                  size_t begin, size_t count) {
  const std::vector<uint32_t>& rows = order.path.rows;
  std::vector<ReportRow> stretch;
  for (size_t i = begin; i < std::min(rows.size(), begin + count); ++i) {
    const size_t domain = order.corpus->info(rows[i]).domain;
    stretch.push_back({.cosine = i == 0 ? 0 : order.vectors->similarity(rows[i - 1], rows[i]),
                       .domain = order.corpus->dataset->domains()[domain].name,
                       .title = title_of(*order.corpus, tokenizer, rows[i])});
  }
  return stretch;
}

}  // namespace

void Histogram::add(double value) {
  const auto bins = static_cast<double>(counts.size());
  const double bin = std::floor((value - low) / (high - low) * bins);
  ++counts[static_cast<size_t>(std::clamp(bin, 0.0, bins - 1))];
}

OrderReport make_report(const SimilarityOrder& order, const ReportOptions& options) {
  OrderReport report;
  report.options = options;
  report.folder = order.corpus->dataset->folder();
  report.num_documents = static_cast<int64_t>(order.path.rows.size());
  report.num_dropped = static_cast<int64_t>(order.is_kept.size()) - report.num_documents;
  report.similar = measure(order, order.path.rows, options);
  report.random = measure(order, random_rows(order.path.rows, options.seed), options);
  report.improved_weight = improve_path(order.graph, order.path, 20).weight;
  for (const size_t shards : {2, 4, 8, 16}) {
    const SimilarityOrderOptions cut{.seed = options.seed, .path_shards = shards};
    report.sharded_weights.emplace_back(
        shards, sharded_path(order.graph, order.is_kept, cut, options.num_threads).weight);
  }
  report.optimum = check_optimum(order, options);
  measure_recall(order, report);
  measure_degrees(order, report);
  const Tokenizer tokenizer(order.corpus->dataset->tokenizer_path());
  list_filtered(order, tokenizer, report);
  list_duplicates(order, tokenizer, report);
  constexpr size_t kStretches = 4;
  constexpr size_t kRowsAStretch = 10;
  for (size_t i = 0; i < kStretches; ++i) {
    const size_t begin = order.path.rows.size() * (2 * i + 1) / (2 * kStretches);
    report.stretches.push_back(stretch_at(order, tokenizer, begin, kRowsAStretch));
  }
  return report;
}

}  // namespace lorikeet
