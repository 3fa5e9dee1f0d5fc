// Random neighbour tables for the similarity room's tests.
#pragma once
#include <algorithm>
#include <random>
#include <vector>

#include "lorikeet/similarity/neighbours.h"

namespace lorikeet::similarity_testing {

/// Points on a circle, compared by the cosine of their angle: near ones are alike, as documents
/// are.
inline std::vector<std::vector<float>> random_scores(size_t rows, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> angle(0, 6.283);
  std::vector<double> angles;
  for (size_t row = 0; row < rows; ++row) angles.push_back(angle(random));
  std::vector<std::vector<float>> scores(rows, std::vector<float>(rows));
  for (size_t a = 0; a < rows; ++a) {
    for (size_t b = 0; b < rows; ++b) {
      scores[a][b] = static_cast<float>(std::max(0.0, std::cos(angles[a] - angles[b])));
    }
  }
  return scores;
}

inline NeighbourTable nearest(const std::vector<std::vector<float>>& scores, size_t k) {
  NeighbourTable table(scores.size(), k);
  for (size_t row = 0; row < scores.size(); ++row) {
    std::vector<Neighbour> list;
    for (size_t other = 0; other < scores.size(); ++other) {
      if (other != row && scores[row][other] > 0) {
        list.push_back({static_cast<uint32_t>(other), scores[row][other]});
      }
    }
    keep_best(list, k);
    std::copy(list.begin(), list.end(), table.entries.begin() + static_cast<int64_t>(row * k));
  }
  return table;
}

inline NeighbourGraph random_graph(size_t rows, size_t k, unsigned seed) {
  return symmetrise(nearest(random_scores(rows, seed), k), std::vector<bool>(rows, true));
}

}  // namespace lorikeet::similarity_testing
