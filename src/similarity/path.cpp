#include "lorikeet/similarity/path.h"

#include <algorithm>
#include <numeric>

#include "lorikeet/data/permutation.h"

namespace lorikeet {

namespace {

constexpr uint64_t kTies = 4;

// Kept rows by ascending degree, those of one degree shuffled. A walk along it that passes over
// visited rows finds, each time, a random one of the unvisited rows of minimum degree.
std::vector<uint32_t> by_degree(const NeighbourGraph& graph, const std::vector<bool>& is_kept,
                                uint64_t seed) {
  const Permutation shuffle(std::max<size_t>(1, graph.num_rows()), derive_key({seed, kTies}));
  std::vector<uint32_t> rows;
  for (size_t i = 0; i < graph.num_rows(); ++i) {
    const auto row = static_cast<uint32_t>(shuffle(i));
    if (is_kept[row]) {
      rows.push_back(row);
    }
  }
  std::stable_sort(rows.begin(), rows.end(),
                   [&](uint32_t a, uint32_t b) { return graph.degree(a) < graph.degree(b); });
  return rows;
}

}  // namespace

Path greedy_path(const NeighbourGraph& graph, const std::vector<bool>& is_kept, uint64_t seed) {
  const std::vector<uint32_t> starts = by_degree(graph, is_kept, seed);
  std::vector<bool> is_visited(is_kept);
  is_visited.flip();
  Path path;
  path.rows.reserve(starts.size());
  const auto visit = [&](uint32_t row) {
    is_visited[row] = true;
    path.rows.push_back(row);
  };
  const auto step = [&] {
    for (const Neighbour& next : graph.of(path.rows.back())) {  // best first
      if (!is_visited[next.row]) {
        path.weight += next.score;
        visit(next.row);
        return true;
      }
    }
    return false;
  };
  for (const uint32_t start : starts) {
    if (is_visited[start]) {
      continue;
    }
    path.num_jumps += path.rows.empty() ? 0 : 1;
    visit(start);
    while (step()) {
    }
  }
  return path;
}

Path measure_path(const NeighbourGraph& graph, std::vector<uint32_t> rows) {
  Path path;
  path.rows = std::move(rows);
  for (size_t i = 1; i < path.rows.size(); ++i) {
    const Neighbour* edge = graph.edge(path.rows[i - 1], path.rows[i]);
    path.num_jumps += edge == nullptr ? 1 : 0;
    path.weight += edge == nullptr ? 0 : edge->score;
  }
  return path;
}

}  // namespace lorikeet
