#include "held_out.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace lorikeet {

namespace {

constexpr size_t kFewest = 8;

// The different texts of every domain, as ascending hashes.
std::map<std::string, std::vector<uint64_t>> hashes_by_domain(const std::vector<Shard>& shards) {
  std::map<std::string, std::vector<uint64_t>> hashes;
  for (const Shard& shard : shards) {
    std::vector<std::vector<uint64_t>*> of_row;
    for (const std::string& domain : shard.domains()) {
      of_row.push_back(&hashes[domain]);
    }
    for (const DocumentEntry& document : shard.documents()) {
      of_row[document.domain]->push_back(document.hash);
    }
  }
  for (auto& [domain, list] : hashes) {
    std::sort(list.begin(), list.end());
    list.erase(std::unique(list.begin(), list.end()), list.end());
  }
  return hashes;
}

}  // namespace

HeldOutRule choose_held_out(const std::vector<Shard>& shards, double fraction) {
  HeldOutRule rule{.fraction = fraction, .threshold = 0, .extra = {}};
  if (fraction <= 0) {
    return rule;
  }
  rule.threshold = static_cast<uint64_t>(std::ldexp(fraction, 64));
  for (const auto& [domain, hashes] : hashes_by_domain(shards)) {
    size_t wanted = std::min(kFewest, hashes.size() / 10);
    if (hashes.size() >= 2) {
      wanted = std::max<size_t>(1, wanted);
    }
    for (size_t i = 0; i < wanted; ++i) {
      if (hashes[i] >= rule.threshold) {
        rule.extra.push_back(hashes[i]);
      }
    }
  }
  std::sort(rule.extra.begin(), rule.extra.end());
  rule.extra.erase(std::unique(rule.extra.begin(), rule.extra.end()), rule.extra.end());
  return rule;
}

std::vector<DomainRecord> count_domains(const std::vector<Shard>& shards, const HeldOutRule& rule) {
  std::vector<DomainRecord> domains;
  std::map<std::string, size_t> rows;
  for (const Shard& shard : shards) {
    std::vector<size_t> of_row;
    for (const std::string& domain : shard.domains()) {
      const auto [found, is_new] = rows.emplace(domain, domains.size());
      if (is_new) {
        domains.push_back({.name = domain});
      }
      of_row.push_back(found->second);
    }
    for (const DocumentEntry& document : shard.documents()) {
      const size_t split = static_cast<size_t>(rule.split(document.hash));
      ++domains[of_row[document.domain]].documents[split];
      domains[of_row[document.domain]].tokens[split] += document.num_tokens;
    }
  }
  return domains;
}

}  // namespace lorikeet
