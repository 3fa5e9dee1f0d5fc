#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "lorikeet/data/packing.h"

namespace lorikeet {

/// The held-out documents, domain by domain, packed in ascending order into contexts: the same for
/// every run on this data.
class ValidationSet {
 public:
  /// Whole contexts only. A domain whose held-out text does not fill one is left out with a
  /// warning.
  /// @param max_contexts  per domain, at most
  ValidationSet(const Dataset& dataset, int64_t context_length, int64_t max_contexts);

  size_t num_domains() const { return domains_.size(); }
  const std::string& domain_name(size_t domain) const { return domains_[domain].name; }
  int64_t num_contexts(size_t domain) const { return domains_[domain].num_contexts; }
  Sequence get(size_t domain, int64_t index) const;

 private:
  struct Domain {
    std::string name;
    int64_t num_contexts;
    PackedDocuments documents;
  };
  int64_t context_length_;
  std::vector<Domain> domains_;
};

}  // namespace lorikeet
