#include "problem.h"

#include <fmt/format.h>

#include <set>

namespace lorikeet {
namespace {

constexpr size_t kLongestShown = 80;

std::string line_of(const Problem& problem) {
  std::string line;
  if (!problem.where.empty()) line += problem.where + ": ";
  if (!problem.keys.empty()) line += shown(problem.keys.front()) + ": ";
  if (!problem.value.empty()) line += problem.value + " ";
  return line + problem.rule;
}

}  // namespace

std::string shown(std::string_view text) {
  std::string result;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (result.size() >= kLongestShown && (byte & 0xC0) != 0x80) return result + "...";
    if (byte < 0x20 || byte == 0x7F) {
      result += fmt::format("\\x{:02x}", byte);
    } else {
      result += c;
    }
  }
  return result;
}

void throw_problems(const std::vector<Problem>& problems, ExitCode code) {
  std::string message;
  std::string hint;
  std::set<std::string> fixes;
  for (const Problem& problem : problems) {
    message += (message.empty() ? "" : "\n") + line_of(problem);
    if (problem.hint.empty()) continue;
    const bool says_which = problems.size() > 1 && !problem.keys.empty() && !problem.value.empty();
    const std::string fix = (says_which ? shown(problem.keys.front()) + ": " : "") + problem.hint;
    if (!fixes.insert(fix).second) continue;
    hint += (hint.empty() ? "" : "; ") + fix;
  }
  throw Error(code, message, hint);
}

}  // namespace lorikeet
