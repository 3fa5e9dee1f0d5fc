#include "two_opt.h"

#include <algorithm>

namespace lorikeet {

namespace {

constexpr double kLeastGain = 1e-6;  // below it rounding could turn pieces for ever

// The path closed to a ring by an end that scores 0 with everything. Either part of a ring that is
// cut in two may be turned round, so the shorter one is.
class Ring {
 public:
  Ring(const NeighbourGraph& graph, const std::vector<uint32_t>& rows)
      : graph_(graph),
        end_(static_cast<uint32_t>(graph.num_rows())),
        places_(graph.num_rows() + 1),
        rows_{end_} {
    rows_.insert(rows_.end(), rows.begin(), rows.end());
    for (size_t place = 0; place < rows_.size(); ++place) places_[rows_[place]] = place;
  }

  // Tries every turn that makes a step from `row` to a nearer neighbour, forward and backward.
  bool improve_at(uint32_t row) {
    for (const bool is_forward : {true, false}) {
      const uint32_t next = beside(row, is_forward);
      const double now = score(row, next);
      for (const Neighbour& near : graph_.of(row)) {
        if (near.score <= now) {
          break;
        }
        const uint32_t behind = beside(near.row, is_forward);
        const double gain = near.score + score(next, behind) - now - score(near.row, behind);
        if (gain > kLeastGain && (is_forward ? turn(next, near.row) : turn(near.row, next))) {
          return true;
        }
      }
    }
    return false;
  }

  std::vector<uint32_t> rows() const {
    const auto begin = rows_.begin() + static_cast<int64_t>(places_[end_]);
    std::vector<uint32_t> found(begin + 1, rows_.end());
    found.insert(found.end(), rows_.begin(), begin);
    return found;
  }

 private:
  uint32_t beside(uint32_t row, bool is_forward) const {
    const size_t place = places_[row];
    if (is_forward) {
      return rows_[place + 1 == rows_.size() ? 0 : place + 1];
    }
    return rows_[place == 0 ? rows_.size() - 1 : place - 1];
  }
  double score(uint32_t a, uint32_t b) const {
    if (a == end_ || b == end_) {
      return 0;
    }
    const Neighbour* edge = graph_.edge(a, b);
    return edge == nullptr ? 0 : edge->score;
  }

  // Turns the rows from `first` forward to `last` round, or all others: the ring is the same.
  // @return false where both are too many
  bool turn(uint32_t first, uint32_t last) {
    const size_t size = rows_.size();
    size_t begin = places_[first];
    size_t end = places_[last];
    size_t count = (end + size - begin) % size + 1;
    if (2 * count > size) {
      std::swap(begin, end);
      begin = (begin + 1) % size;
      end = (end + size - 1) % size;
      count = size - count;
    }
    if (count > kLongestTurn) {
      return false;
    }
    for (; count > 1; count -= 2) {
      std::swap(rows_[begin], rows_[end]);
      places_[rows_[begin]] = begin;
      places_[rows_[end]] = end;
      begin = (begin + 1) % size;
      end = (end + size - 1) % size;
    }
    return true;
  }

  const NeighbourGraph& graph_;
  uint32_t end_;
  std::vector<size_t> places_;  ///< of every row, and of the end
  std::vector<uint32_t> rows_;
};

}  // namespace

bool two_opt_pass(const NeighbourGraph& graph, std::vector<uint32_t>& rows) {
  Ring ring(graph, rows);
  bool is_changed = false;
  for (const uint32_t row : rows) {
    is_changed = ring.improve_at(row) || is_changed;
  }
  rows = ring.rows();
  return is_changed;
}

}  // namespace lorikeet
