// Neighbour graphs and paths against straightforward statements of what they are.
#include "lorikeet/similarity/path.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "lorikeet/similarity/order_report.h"
#include "tests/similarity/random_graphs.h"

namespace lorikeet {
namespace {

using similarity_testing::nearest;
using similarity_testing::random_graph;
using similarity_testing::random_scores;
using ::testing::ElementsAre;

float score(const NeighbourGraph& graph, uint32_t a, uint32_t b) {
  for (const Neighbour& entry : graph.of(a)) {
    if (entry.row == b) return entry.score;
  }
  return 0;
}

bool holds_each_once(std::vector<uint32_t> rows, size_t count) {
  std::sort(rows.begin(), rows.end());
  std::vector<uint32_t> all(count);
  std::iota(all.begin(), all.end(), 0u);
  return rows == all;
}

TEST(NeighbourGraph, JoinsTwoRowsWhereEitherIsAmongTheOthersNearest) {
  const auto scores = random_scores(60, 1);
  const NeighbourTable table = nearest(scores, 5);
  const NeighbourGraph graph = symmetrise(table, std::vector<bool>(60, true));
  std::set<std::pair<size_t, size_t>> expected;
  for (size_t row = 0; row < 60; ++row) {
    for (const Neighbour& entry : table.of(row)) {
      expected.emplace(row, entry.row);
      expected.emplace(entry.row, row);
    }
  }
  std::set<std::pair<size_t, size_t>> found;
  for (size_t row = 0; row < 60; ++row) {
    float last = 2;
    for (const Neighbour& entry : graph.of(row)) {
      EXPECT_TRUE(found.emplace(row, entry.row).second) << "an edge stands there twice";
      EXPECT_EQ(entry.score, scores[row][entry.row]);
      EXPECT_LE(entry.score, last);
      last = entry.score;
    }
  }
  EXPECT_EQ(found, expected);
  EXPECT_EQ(graph.num_edges() * 2, expected.size());
}

TEST(NeighbourGraph, LeavesOutRowsThatAreNotKept) {
  std::vector<bool> is_kept(60, true);
  is_kept[7] = is_kept[8] = false;
  const NeighbourGraph graph = symmetrise(nearest(random_scores(60, 2), 8), is_kept);
  EXPECT_EQ(graph.degree(7), 0u);
  for (const Neighbour& entry : graph.edges) {
    EXPECT_TRUE(is_kept[entry.row]);
  }
  const Path path = greedy_path(graph, is_kept, 1);
  EXPECT_EQ(path.rows.size(), 58u);
  EXPECT_EQ(std::count(path.rows.begin(), path.rows.end(), 7u), 0);
}

// The paper's words, with a search over all rows at every step. Where it may choose at random it
// takes what the path under test took, if that is allowed.
void expect_greedy(const NeighbourGraph& graph, const Path& path) {
  std::set<uint32_t> unvisited;
  for (uint32_t row = 0; row < graph.num_rows(); ++row) unvisited.insert(row);
  double weight = 0;
  uint64_t jumps = 0;
  for (size_t i = 0; i < path.rows.size(); ++i) {
    const uint32_t row = path.rows[i];
    ASSERT_TRUE(unvisited.contains(row));
    float best = 0;
    size_t least = graph.num_rows();
    for (const uint32_t other : unvisited) {
      if (i > 0) best = std::max(best, score(graph, path.rows[i - 1], other));
      least = std::min(least, graph.degree(other));
    }
    if (best > 0) {
      ASSERT_EQ(score(graph, path.rows[i - 1], row), best) << "step " << i;
      weight += best;
    } else {
      ASSERT_EQ(graph.degree(row), least) << "step " << i;
      jumps += i > 0 ? 1 : 0;
    }
    unvisited.erase(row);
  }
  EXPECT_TRUE(unvisited.empty());
  EXPECT_NEAR(path.weight, weight, 1e-9);
  EXPECT_EQ(path.num_jumps, jumps);
}

TEST(GreedyPath, FollowsTheMostSimilarUnvisitedNeighbourAndJumpsToLeastDegrees) {
  for (const unsigned seed : {1u, 2u, 3u, 4u}) {
    for (const size_t k : {1u, 3u, 10u}) {
      const NeighbourGraph graph = random_graph(150, k, seed);
      const Path path = greedy_path(graph, std::vector<bool>(150, true), seed);
      expect_greedy(graph, path);
      const Path measured = measure_path(graph, path.rows);
      EXPECT_NEAR(measured.weight, path.weight, 1e-9);
      EXPECT_EQ(measured.num_jumps, path.num_jumps);
    }
  }
}

// As many rows as the shared corpus has training documents.
TEST(SlowGreedyPath, IsGreedyAtEveryStepOfACorpus) {
  constexpr size_t kRows = 12'647;
  const NeighbourGraph graph = random_graph(kRows, 10, 7);
  expect_greedy(graph, greedy_path(graph, std::vector<bool>(kRows, true), 7));
}

TEST(GreedyPath, IsTheSameForTheSameSeedAndStartsElsewhereForOthers) {
  const NeighbourGraph graph = random_graph(200, 2, 5);
  const std::vector<bool> all(200, true);
  EXPECT_EQ(greedy_path(graph, all, 1).rows, greedy_path(graph, all, 1).rows);
  std::set<uint32_t> starts;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    starts.insert(greedy_path(graph, all, seed).rows[0]);
  }
  EXPECT_GT(starts.size(), 5u);
}

TEST(GreedyPath, TakesRowsWithoutNeighboursAndEmptyGraphs) {
  const NeighbourGraph lonely = symmetrise(NeighbourTable(3, 2), std::vector<bool>(3, true));
  const Path path = greedy_path(lonely, std::vector<bool>(3, true), 1);
  EXPECT_TRUE(holds_each_once(path.rows, 3));
  EXPECT_EQ(path.num_jumps, 2u);
  EXPECT_TRUE(greedy_path(NeighbourGraph(), {}, 1).rows.empty());
}

TEST(OptimalPath, EqualsTheBestOfAllPermutations) {
  for (unsigned seed = 0; seed < 5; ++seed) {
    const NeighbourGraph graph = random_graph(7, 3, seed);
    std::vector<uint32_t> rows(7);
    std::iota(rows.begin(), rows.end(), 0u);
    double best = 0;
    do {
      best = std::max(best, measure_path(graph, rows).weight);
    } while (std::next_permutation(rows.begin(), rows.end()));
    EXPECT_NEAR(optimal_path_weight(graph), best, 1e-9);
    const double greedy = greedy_path(graph, std::vector<bool>(7, true), seed).weight;
    EXPECT_LE(greedy, best + 1e-9);
    EXPECT_GE(greedy, best / 2);  // greedy matching's bound does not hold for paths; these do
  }
}

TEST(ImprovePath, KeepsEveryRowAndNeverLowersTheWeight) {
  double before = 0;
  double after = 0;
  for (const unsigned seed : {1u, 2u, 3u, 4u, 5u}) {
    const NeighbourGraph graph = random_graph(300, 6, seed);
    const Path path = greedy_path(graph, std::vector<bool>(300, true), seed);
    const Path improved = improve_path(graph, path, 50);
    EXPECT_TRUE(holds_each_once(improved.rows, 300));
    EXPECT_GE(improved.weight, path.weight);
    before += path.weight;
    after += improved.weight;
    EXPECT_EQ(improve_path(graph, path, 0).rows, path.rows);
  }
  EXPECT_GT(after, before);
}

// Every pair of steps, also those that begin or end outside the path.
double best_turn(const NeighbourGraph& graph, const std::vector<uint32_t>& rows) {
  const auto at = [&](size_t a, size_t b) {  // places; one behind the last is the end
    return a >= rows.size() || b >= rows.size() ? 0.0 : score(graph, rows[a], rows[b]);
  };
  const size_t outside = rows.size();
  double best = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    for (size_t j = i + 1; j < rows.size(); ++j) {  // turns i .. j
      const size_t before = i == 0 ? outside : i - 1;
      best = std::max(best, at(before, j) + at(i, j + 1) - at(before, i) - at(j, j + 1));
    }
  }
  return best;
}

TEST(ImprovePath, LeavesNoTurnThatWouldGainAnything) {
  for (const unsigned seed : {1u, 2u, 3u}) {
    const NeighbourGraph graph = random_graph(120, 5, seed);
    std::vector<uint32_t> rows(120);
    std::iota(rows.begin(), rows.end(), 0u);
    const Path path = measure_path(graph, rows);
    EXPECT_GT(best_turn(graph, path.rows), 0.5);
    EXPECT_LT(best_turn(graph, improve_path(graph, path, 1000).rows), 1e-5);
  }
}

TEST(ImprovePath, TurnsALongPieceRound) {
  NeighbourTable table(40, 2);  // a chain whose middle lies the wrong way round
  std::vector<uint32_t> rows(40);
  std::iota(rows.begin(), rows.end(), 0u);
  for (uint32_t row = 0; row < 40; ++row) {
    std::vector<Neighbour> list;
    if (row > 0) list.push_back({row - 1, 0.9f});
    if (row < 39) list.push_back({row + 1, 0.9f});
    std::copy(list.begin(), list.end(), table.entries.begin() + row * 2);
  }
  const NeighbourGraph chain = symmetrise(table, std::vector<bool>(40, true));
  std::reverse(rows.begin() + 10, rows.begin() + 30);
  EXPECT_NEAR(improve_path(chain, measure_path(chain, rows), 10).weight, 39 * 0.9, 1e-4);
}

TEST(ImprovePath, MovesARowToItsNeighboursAndMayTurnPiecesRound) {
  // 0-1-2-3-4 is a chain; 2 was left for the end. Edges: consecutive rows score 0.9.
  NeighbourTable table(5, 2);
  for (uint32_t row = 0; row < 5; ++row) {
    std::vector<Neighbour> list;
    if (row > 0) list.push_back({row - 1, 0.9f});
    if (row < 4) list.push_back({row + 1, 0.9f});
    std::copy(list.begin(), list.end(), table.entries.begin() + row * 2);
  }
  const NeighbourGraph chain = symmetrise(table, std::vector<bool>(5, true));
  EXPECT_THAT(improve_path(chain, measure_path(chain, {0, 1, 3, 4, 2}), 10).rows,
              ElementsAre(0, 1, 2, 3, 4));
  EXPECT_NEAR(improve_path(chain, measure_path(chain, {2, 1, 0, 3, 4}), 10).weight, 3.6, 1e-6);
}

}  // namespace
}  // namespace lorikeet
