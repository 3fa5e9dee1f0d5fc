// Or-opt on a linked list: moving a piece costs O(1), and only places next to a graph neighbour
// that is nearer than the piece's present one are tried, so a pass is about as long as the greedy
// path itself. Passes of it and of 2-opt take turns.
#include <algorithm>
#include <array>

#include "lorikeet/similarity/path.h"
#include "two_opt.h"

namespace lorikeet {

namespace {

constexpr int kLongestPiece = 3;
constexpr double kLeastGain = 1e-6;  // below it rounding could move pieces for ever

// The path between two ends that score 0 with everything, so that the first and the last row are
// like the others.
class LinkedPath {
 public:
  LinkedPath(const NeighbourGraph& graph, const std::vector<uint32_t>& rows)
      : graph_(graph), end_(static_cast<uint32_t>(graph.num_rows())), links_(end_ + 1) {
    uint32_t last = end_;
    for (const uint32_t row : rows) {
      join(last, row);
      last = row;
    }
    join(last, end_);
  }

  uint32_t end() const { return end_; }
  uint32_t next(uint32_t row) const { return links_[row].next; }
  uint32_t previous(uint32_t row) const { return links_[row].previous; }
  /// Score of a row and the one behind it.
  double after(uint32_t row) const { return links_[row].score; }
  double score(uint32_t a, uint32_t b) const {
    if (a == end_ || b == end_) {
      return 0;
    }
    const Neighbour* edge = graph_.edge(a, b);
    return edge == nullptr ? 0 : edge->score;
  }
  std::span<const Neighbour> neighbours(uint32_t row) const { return graph_.of(row); }

  void join(uint32_t a, uint32_t b) {
    links_[a].next = b;
    links_[a].score = score(a, b);
    links_[b].previous = a;
  }

  std::vector<uint32_t> rows() const {
    std::vector<uint32_t> found;
    for (uint32_t row = next(end_); row != end_; row = next(row)) {
      found.push_back(row);
    }
    return found;
  }

 private:
  struct Link {
    uint32_t next = 0;
    uint32_t previous = 0;
    double score = 0;
  };
  const NeighbourGraph& graph_;
  uint32_t end_;
  std::vector<Link> links_;
};

// Consecutive rows of the path, first to last.
struct Piece {
  std::array<uint32_t, kLongestPiece> rows;
  int size = 0;
  uint32_t first() const { return rows[0]; }
  uint32_t last() const { return rows[static_cast<size_t>(size) - 1]; }
  bool contains(uint32_t row) const {
    return std::find(rows.begin(), rows.begin() + size, row) != rows.begin() + size;
  }
};

// Between `left` and the row behind it, as it lies or the other way round.
struct Place {
  uint32_t left = 0;
  bool is_reversed = false;
  double gain = 0;
};

void consider(const LinkedPath& path, const Piece& piece, uint32_t left, bool is_reversed,
              double freed, Place& best) {
  const uint32_t right = path.next(left);
  if (piece.contains(left) || piece.contains(right)) {
    return;
  }
  const uint32_t first = is_reversed ? piece.last() : piece.first();
  const uint32_t last = is_reversed ? piece.first() : piece.last();
  const double gain = freed + path.score(left, first) + path.score(last, right) - path.after(left);
  if (gain > best.gain) {
    best = {.left = left, .is_reversed = is_reversed, .gain = gain};
  }
}

Place best_place(const LinkedPath& path, const Piece& piece) {
  const uint32_t before = path.previous(piece.first());
  const uint32_t behind = path.next(piece.last());
  const double freed = path.score(before, behind) - path.after(before) - path.after(piece.last());
  Place best{.gain = kLeastGain};
  for (const Neighbour& near : path.neighbours(piece.first())) {
    if (near.score <= path.after(before)) {
      break;
    }
    consider(path, piece, near.row, false, freed, best);
    consider(path, piece, path.previous(near.row), true, freed, best);
  }
  for (const Neighbour& near : path.neighbours(piece.last())) {
    if (near.score <= path.after(piece.last())) {
      break;
    }
    consider(path, piece, path.previous(near.row), false, freed, best);
    consider(path, piece, near.row, true, freed, best);
  }
  return best;
}

void move(LinkedPath& path, Piece piece, const Place& place) {
  path.join(path.previous(piece.first()), path.next(piece.last()));
  if (place.is_reversed) {
    std::reverse(piece.rows.begin(), piece.rows.begin() + piece.size);
  }
  const uint32_t right = path.next(place.left);
  uint32_t last = place.left;
  for (int i = 0; i < piece.size; ++i) {
    path.join(last, piece.rows[static_cast<size_t>(i)]);
    last = piece.rows[static_cast<size_t>(i)];
  }
  path.join(last, right);
}

// @return whether a piece that begins at `row` was moved
bool improve_at(LinkedPath& path, uint32_t row) {
  Piece piece;
  for (uint32_t at = row; at != path.end() && piece.size < kLongestPiece; at = path.next(at)) {
    piece.rows[static_cast<size_t>(piece.size++)] = at;
    const Place place = best_place(path, piece);
    if (place.gain > kLeastGain) {
      move(path, piece, place);
      return true;
    }
  }
  return false;
}

// @return whether anything was moved
bool or_opt_pass(const NeighbourGraph& graph, std::vector<uint32_t>& rows) {
  LinkedPath links(graph, rows);
  bool is_changed = false;
  for (const uint32_t row : rows) {
    is_changed = improve_at(links, row) || is_changed;
  }
  rows = links.rows();
  return is_changed;
}

}  // namespace

Path improve_path(const NeighbourGraph& graph, const Path& path, int64_t max_passes) {
  std::vector<uint32_t> rows = path.rows;
  bool is_changed = true;
  for (int64_t pass = 0; pass < max_passes && is_changed; ++pass) {
    is_changed = or_opt_pass(graph, rows);
    is_changed = two_opt_pass(graph, rows) || is_changed;
  }
  return measure_path(graph, std::move(rows));
}

}  // namespace lorikeet
