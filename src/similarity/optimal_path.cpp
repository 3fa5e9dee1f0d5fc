#include <stdexcept>

#include "lorikeet/similarity/order_report.h"

namespace lorikeet {

double optimal_path_weight(const NeighbourGraph& graph) {
  constexpr size_t kMostRows = 16;
  const size_t n = graph.num_rows();
  if (n > kMostRows) {
    throw std::invalid_argument("the exact optimum is for at most 16 rows");
  }
  if (n == 0) {
    return 0;
  }
  std::vector<double> score(n * n);
  for (size_t row = 0; row < n; ++row) {
    for (const Neighbour& entry : graph.of(row)) {
      score[row * n + entry.row] = entry.score;
    }
  }
  // best[set * n + last]: the heaviest path over the set's rows that ends at `last`.
  std::vector<double> best((size_t{1} << n) * n, -1);
  double optimum = 0;
  for (size_t set = 1; set < size_t{1} << n; ++set) {
    for (size_t last = 0; last < n; ++last) {
      const size_t bit = size_t{1} << last;
      if ((set & bit) == 0) {
        continue;
      }
      const size_t before = set ^ bit;
      double& value = best[set * n + last];
      value = before == 0 ? 0 : -1;
      for (size_t previous = 0; previous < n; ++previous) {
        if ((before >> previous & 1) != 0) {
          value = std::max(value, best[before * n + previous] + score[previous * n + last]);
        }
      }
      optimum = std::max(optimum, value);
    }
  }
  return optimum;
}

}  // namespace lorikeet
