#include "slurm_lists.h"

#include <charconv>

namespace lorikeet {

namespace {

constexpr int64_t kMost = 1'000'000;  // tasks of a node, nodes; keeps sums far from overflow

// Takes a number from 1 to kMost off the front of `text`; 0 where there is none.
int64_t take_number(std::string_view& text) {
  int64_t number = 0;
  const auto [stop, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failure != std::errc() || number < 1 || number > kMost) return 0;
  text.remove_prefix(static_cast<size_t>(stop - text.data()));
  return number;
}

bool take(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

}  // namespace

std::optional<SlurmTasks> slurm_tasks_on(std::string_view list, int64_t node) {
  SlurmTasks tasks;
  int64_t num_nodes = 0;
  do {
    const int64_t count = take_number(list);
    int64_t repeated = 1;
    if (take(list, "(x")) {
      repeated = take_number(list);
      if (!take(list, ")")) return std::nullopt;
    }
    if (count == 0 || repeated == 0) return std::nullopt;
    if (node >= num_nodes && node < num_nodes + repeated) tasks.on_node = count;
    num_nodes += repeated;
    tasks.total += count * repeated;
  } while (take(list, ","));
  return list.empty() ? std::optional(tasks) : std::nullopt;
}

std::optional<std::string> slurm_first_host(std::string_view list) {
  constexpr std::string_view kDigits = "0123456789";
  std::string host;
  while (!list.empty() && list[0] != ',') {
    if (!take(list, "[")) {
      if (list.find_first_of(" \t\n]") == 0) return std::nullopt;
      host += list[0];
      list.remove_prefix(1);
      continue;
    }
    // The first number of the ranges, with its leading zeros.
    const size_t close = list.find(']');
    if (close == std::string_view::npos) return std::nullopt;
    const std::string_view ranges = list.substr(0, close);
    const std::string_view first = ranges.substr(0, ranges.find_first_not_of(kDigits));
    if (first.empty() || ranges.find_first_not_of("0123456789,-") != std::string_view::npos) {
      return std::nullopt;
    }
    host += first;
    list.remove_prefix(close + 1);
  }
  return host.empty() ? std::nullopt : std::optional(host);
}

}  // namespace lorikeet
