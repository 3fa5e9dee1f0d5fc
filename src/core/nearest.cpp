#include "lorikeet/core/nearest.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>

namespace lorikeet {
namespace {

constexpr size_t kShortestPrefix = 3;

std::string folded(std::string_view word) {
  std::string result(word);
  for (char& c : result) {
    c = c == '-' ? '_' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return result;
}

std::string only_completion(const std::string& word, const std::vector<std::string>& candidates) {
  std::string found;
  if (word.size() < kShortestPrefix) return found;
  for (const std::string& candidate : candidates) {
    if (!folded(candidate).starts_with(word)) continue;
    if (!found.empty()) return "";
    found = candidate;
  }
  return found;
}

}  // namespace

int edit_distance(std::string_view a, std::string_view b) {
  // Three rows of the usual table: the one before last is needed for swaps.
  std::vector<int> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = static_cast<int>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    std::swap(before, last);
    std::swap(last, row);
    row[0] = static_cast<int>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const int replaced = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({replaced, last[j] + 1, row[j - 1] + 1});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
    }
  }
  return row[b.size()];
}

std::string nearest(std::string_view word, const std::vector<std::string>& candidates) {
  const std::string wanted = folded(word);
  std::string best;
  int best_distance = 0;
  for (const std::string& candidate : candidates) {
    const std::string name = folded(candidate);
    const size_t longer = std::max(name.size(), wanted.size());
    const size_t shorter = std::min(name.size(), wanted.size());
    const size_t limit = longer / 3;
    if (longer - shorter > limit) continue;  // also keeps absurdly long words cheap
    const int distance = edit_distance(wanted, name);
    if (static_cast<size_t>(distance) > limit) continue;
    if (best.empty() || distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best.empty() ? only_completion(wanted, candidates) : best;
}

}  // namespace lorikeet
