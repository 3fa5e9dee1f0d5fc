#pragma once
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace lorikeet {

// Rows: the training documents of a dataset in ascending order, numbered from 0. All stages count
// in rows; only the order itself speaks of document numbers again.

struct Neighbour {
  static constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();
  uint32_t row = kNone;
  float score = 0;  ///< cosine
  bool operator==(const Neighbour&) const = default;
};
static_assert(sizeof(Neighbour) == 8);

/// The order of neighbour lists: the better score first, of equal ones the smaller row.
inline bool is_better(const Neighbour& a, const Neighbour& b) {
  return a.score != b.score ? a.score > b.score : a.row < b.row;
}

/// The best k neighbours of every row, best first; shorter lists end with kNone.
struct NeighbourTable {
  size_t k = 0;
  std::vector<Neighbour> entries;  ///< rows x k

  NeighbourTable() = default;
  NeighbourTable(size_t num_rows, size_t k) : k(k), entries(num_rows * k) {}
  size_t num_rows() const { return k == 0 ? 0 : entries.size() / k; }
  /// Without the padding.
  std::span<const Neighbour> of(size_t row) const;
};

/// Sorts `found` and keeps the best k of it.
void keep_best(std::vector<Neighbour>& found, size_t k);

/// Undirected: j is in i's list exactly where i is in j's, with one score; lists are sorted.
struct NeighbourGraph {
  std::vector<uint64_t> begins = {0};  ///< rows + 1
  std::vector<Neighbour> edges;        ///< every edge twice

  size_t num_rows() const { return begins.size() - 1; }
  size_t num_edges() const { return edges.size() / 2; }
  size_t degree(size_t row) const { return begins[row + 1] - begins[row]; }
  std::span<const Neighbour> of(size_t row) const {
    return {edges.data() + begins[row], edges.data() + begins[row + 1]};
  }
  /// Null where no edge joins them. O(degree of a).
  const Neighbour* edge(uint32_t a, uint32_t b) const;
};

/// Two rows are joined where either is among the other's k best (In-Context Pretraining, arXiv
/// 2310.10638, section 2.1). Rows that are not kept have no edges. O(rows k^2).
NeighbourGraph symmetrise(const NeighbourTable& table, const std::vector<bool>& is_kept);

}  // namespace lorikeet
