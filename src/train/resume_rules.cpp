#include "lorikeet/train/resume_rules.h"

#include <fmt/format.h>

#include <array>
#include <string_view>

#include "lorikeet/config/load.h"
#include "lorikeet/core/error.h"

namespace lorikeet {

namespace {

/// Keys, and all below them where they end with a dot.
constexpr std::array<std::string_view, 6> kFixed = {"seed",
                                                    "model.",
                                                    "data.order",
                                                    "data.mixture.",
                                                    "train.dense_warmup",
                                                    "train.dense_warmup_optimizer"};
constexpr std::array<std::string_view, 1> kFree = {"model.feed_forward.kernel"};

bool matches(std::string_view key, std::string_view rule) {
  return rule.ends_with('.') ? key.starts_with(rule) : key == rule;
}

bool is_fixed(std::string_view key) {
  for (const auto rule : kFree) {
    if (matches(key, rule)) return false;
  }
  for (const auto rule : kFixed) {
    if (matches(key, rule)) return true;
  }
  return false;
}

}  // namespace

void check_resumable(const std::string& saved_yaml, const RunConfig& config) {
  const auto saved = config_entries(parse_run_config(saved_yaml, "the checkpoint's configuration"));
  const auto now = config_entries(config);
  std::string changes;
  const auto compare = [&](const auto& from, const auto& to, bool is_forward) {
    for (const auto& [key, value] : from) {
      if (!is_fixed(key)) continue;
      const auto other = to.find(key);
      if (other != to.end() && (other->second == value || !is_forward)) continue;
      const std::string theirs = other == to.end() ? "absent" : other->second;
      changes += fmt::format("\n  {}: {} in the checkpoint, {} now", key,
                             is_forward ? value : theirs, is_forward ? theirs : value);
    }
  };
  compare(saved, now, true);
  compare(now, saved, false);
  if (changes.empty()) return;
  throw Error(ExitCode::kUsage, "a resumed run cannot change" + changes,
              "set them back, or start a new run under another `name`");
}

}  // namespace lorikeet
