#include "lorikeet/data/validation_set.h"

#include <algorithm>

#include "lorikeet/core/log.h"

namespace lorikeet {

ValidationSet::ValidationSet(const Dataset& dataset, int64_t context_length, int64_t max_contexts)
    : context_length_(context_length) {
  for (size_t row = 0; row < dataset.domains().size(); ++row) {
    PackedDocuments documents(dataset,
                              dataset.documents(Split::kHeldOut, static_cast<int64_t>(row)));
    const int64_t count = std::min(max_contexts, documents.num_contexts(context_length));
    const std::string& name = dataset.domains()[row].name;
    if (count == 0) {
      log_warning(
          "domain {} is not validated: its {} held-out tokens do not fill one context of {}", name,
          documents.num_tokens(), context_length);
      continue;
    }
    domains_.push_back({.name = name, .num_contexts = count, .documents = std::move(documents)});
  }
}

Sequence ValidationSet::get(size_t domain, int64_t index) const {
  return domains_[domain].documents.cut(index, context_length_);
}

}  // namespace lorikeet
