#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "lorikeet/similarity/similarity_order.h"

namespace lorikeet {

struct ReportOptions {
  int64_t context_length = 4096;  ///< what contexts are counted for
  uint64_t seed = 1;              ///< of the random order and of samples
  int64_t num_threads = 0;
  std::string encoder = {};  ///< how the page names it
};

/// Counts of values in equal bins from `low` to `high`; values outside are in the first or last.
struct Histogram {
  double low = 0;
  double high = 1;
  std::vector<int64_t> counts;

  Histogram(double low, double high, size_t bins) : low(low), high(high), counts(bins) {}
  void add(double value);
};

/// The documents of one order against each other.
struct OrderQuality {
  double mean_cosine = 0;        ///< of documents that follow each other
  double path_weight = 0;        ///< sum over the graph's edges that the order follows
  uint64_t num_jumps = 0;        ///< steps that follow none
  double one_domain_share = 0;   ///< of the contexts, those with documents of one domain only
  double domains_a_context = 0;  ///< mean
  Histogram cosines{0, 1, 40};
};

/// Greedy and improved paths of small graphs against the exact optimum (Held and Karp, 1962).
struct OptimumCheck {
  int64_t num_graphs = 0;
  size_t num_rows = 0;        ///< of each graph: a random document and its nearest neighbours
  double greedy_ratio = 0;    ///< mean of weight / optimum
  double worst_ratio = 1;     ///< of the greedy paths
  double improved_ratio = 0;  ///< mean, after improve_path
};

/// One step of a stretch of the order.
struct ReportRow {
  float cosine = 0;  ///< with the row before
  std::string domain;
  std::string title;
};

struct FilterExample {
  Filter filter = Filter::kNone;
  std::string domain;
  std::string title;
};

struct DuplicateExample {
  std::string original;
  std::string copy;
  float cosine = 0;
  float jaccard = 0;
};

/// What an order is worth: the figures of `lorikeet data batch --report`.
struct OrderReport {
  ReportOptions options;
  std::string folder;
  int64_t num_documents = 0;
  int64_t num_dropped = 0;
  bool has_filters = false;  ///< whether they were asked
  bool drops_filtered = false;
  std::array<int64_t, kNumFilters> filtered_documents = {};  ///< by Filter
  std::array<int64_t, kNumFilters> filtered_tokens = {};
  std::vector<FilterExample> filtered;  ///< the first few
  bool drops_duplicates = false;
  int64_t num_duplicates = -1;  ///< -1: not looked for
  int64_t num_duplicate_tokens = 0;
  std::vector<DuplicateExample> duplicates;  ///< the first few
  OrderQuality similar;
  OrderQuality random;
  double improved_weight = 0;                              ///< of the path after improve_path
  std::vector<std::pair<size_t, double>> sharded_weights;  ///< parts, path weight
  OptimumCheck optimum;
  int64_t recall_rows = 0;  ///< sampled
  size_t recall_at = 0;     ///< how many nearest documents are compared: 10, or all that are kept
  double recall = 0;        ///< of the neighbour lists against brute force
  int64_t num_edges = 0;
  std::vector<int64_t> degrees;  ///< least, 10%, median, 90%, most
  Histogram degree_histogram{0, 1, 40};
  std::vector<std::vector<ReportRow>> stretches;  ///< titles in a row, from a few places
};

OrderReport make_report(const SimilarityOrder& order, const ReportOptions& options);

/// For a terminal.
std::string to_text(const OrderReport& report);
/// One page that needs nothing else, with plots as SVG.
std::string to_html(const OrderReport& report);

/// The heaviest path through all rows of a small graph, missing edges counting 0. O(2^n n^2).
/// @throws std::invalid_argument above 16 rows
double optimal_path_weight(const NeighbourGraph& graph);

}  // namespace lorikeet
