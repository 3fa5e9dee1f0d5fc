#include "lorikeet/similarity/neighbours.h"

#include <algorithm>

namespace lorikeet {

std::span<const Neighbour> NeighbourTable::of(size_t row) const {
  const Neighbour* begin = entries.data() + row * k;
  size_t count = k;
  while (count > 0 && begin[count - 1].row == Neighbour::kNone) {
    --count;
  }
  return {begin, count};
}

void keep_best(std::vector<Neighbour>& found, size_t k) {
  if (found.size() > k) {
    std::nth_element(found.begin(), found.begin() + static_cast<int64_t>(k), found.end(),
                     is_better);
    found.resize(k);
  }
  std::sort(found.begin(), found.end(), is_better);
}

const Neighbour* NeighbourGraph::edge(uint32_t a, uint32_t b) const {
  const auto list = of(a);
  const auto found = std::find_if(list.begin(), list.end(),
                                  [&](const Neighbour& entry) { return entry.row == b; });
  return found == list.end() ? nullptr : &*found;
}

NeighbourGraph symmetrise(const NeighbourTable& table, const std::vector<bool>& is_kept) {
  const size_t num_rows = table.num_rows();
  const auto lists = [&](size_t row, size_t other) {
    const auto list = table.of(row);
    return std::any_of(list.begin(), list.end(),
                       [&](const Neighbour& entry) { return entry.row == other; });
  };
  // Calls add(from, to, score) once for every edge and direction.
  const auto visit = [&](const auto& add) {
    for (size_t row = 0; row < num_rows; ++row) {
      for (const Neighbour& entry : table.of(row)) {
        if (is_kept[row] && is_kept[entry.row]) {
          add(row, entry.row, entry.score);
          if (!lists(entry.row, row)) {
            add(entry.row, row, entry.score);
          }
        }
      }
    }
  };
  NeighbourGraph graph;
  graph.begins.assign(num_rows + 1, 0);
  visit([&](size_t from, size_t, float) { ++graph.begins[from + 1]; });
  for (size_t row = 0; row < num_rows; ++row) {
    graph.begins[row + 1] += graph.begins[row];
  }
  graph.edges.resize(graph.begins.back());
  std::vector<uint64_t> next(graph.begins.begin(), graph.begins.end() - 1);
  visit([&](size_t from, size_t to, float score) {
    graph.edges[next[from]++] = {.row = static_cast<uint32_t>(to), .score = score};
  });
  for (size_t row = 0; row < num_rows; ++row) {
    std::sort(graph.edges.begin() + static_cast<int64_t>(graph.begins[row]),
              graph.edges.begin() + static_cast<int64_t>(graph.begins[row + 1]), is_better);
  }
  return graph;
}

}  // namespace lorikeet
