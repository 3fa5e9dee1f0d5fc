#include "lorikeet/train/time_shares.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace lorikeet {

double TimeShares::total() const {
  double sum = 0;
  for (const auto& [what, seconds] : seconds_) sum += seconds;
  return sum;
}

double TimeShares::stall_share() const {
  double stalled = 0;
  for (const auto& [what, seconds] : seconds_) {
    if (what != kSteps && what != kValidation) stalled += seconds;
  }
  const double all = total();
  return all > 0 ? stalled / all : 0;
}

std::string TimeShares::to_text() const {
  std::vector<std::pair<double, std::string>> parts;
  for (const auto& [what, seconds] : seconds_) parts.emplace_back(-seconds / total(), what);
  std::sort(parts.begin(), parts.end());
  std::string text;
  for (const auto& [share, what] : parts) {
    text += fmt::format("{}{} {:.2f}%", text.empty() ? "" : ", ", what, -100 * share);
  }
  return text;
}

}  // namespace lorikeet
