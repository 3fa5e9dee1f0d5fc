#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "lorikeet/similarity/neighbours.h"

namespace lorikeet {

struct Path {
  std::vector<uint32_t> rows;  ///< every kept row once
  double weight = 0;           ///< sum of the scores of its edges; a jump counts 0
  uint64_t num_jumps = 0;      ///< steps between rows that no edge joins
};

/// The greedy maximum travelling-salesman path of In-Context Pretraining (arXiv 2310.10638,
/// algorithm 1, with arg max as its prose says): from an unvisited row of minimum degree always to
/// the most similar unvisited neighbour of the last row; at a dead end to a random unvisited row of
/// minimum degree. Degrees are those of the whole graph. O(rows log rows + edges); the same for
/// the same seed.
Path greedy_path(const NeighbourGraph& graph, const std::vector<bool>& is_kept, uint64_t seed);

/// Weight and jumps of any order of rows. O(sum of degrees).
Path measure_path(const NeighbourGraph& graph, std::vector<uint32_t> rows);

/// Local improvement by moves that are taken from the graph's edges: pieces of one to three rows
/// go, either way round, to where the sum of scores grows most (Or-opt), and longer ones are turned
/// round where they lie (2-opt). Passes of both take turns until two change nothing, or
/// `max_passes` are done. Never lowers the weight.
Path improve_path(const NeighbourGraph& graph, const Path& path, int64_t max_passes);

}  // namespace lorikeet
