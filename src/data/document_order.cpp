#include "lorikeet/data/document_order.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "lorikeet/core/hash.h"
#include "lorikeet/data/order_file.h"
#include "lorikeet/data/permutation.h"

namespace lorikeet {

namespace {

constexpr double kOne = 4294967296.0;  // 2^32: weight 1
constexpr double kLargestWeight = 1000.0;
enum Purpose : uint64_t { kShuffle = 1, kFraction = 2 };

std::vector<DocumentNumber> base_order(const Dataset& dataset, const std::string& order) {
  if (order == "random") {
    return dataset.documents(Split::kTrain);
  }
  if (order != "similarity") {
    return read_order_file(order, dataset);
  }
  const std::string path =
      (std::filesystem::path(dataset.folder()) / kSimilarityOrderFile).string();
  if (!std::filesystem::exists(path)) {
    throw Error(ExitCode::kData,
                fmt::format("{}: there is no such order; data.order is similarity", path),
                "make it first: lorikeet data batch " + dataset.folder());
  }
  return read_order_file(path, dataset);
}

std::string domain_names(const Dataset& dataset) {
  std::string names;
  for (const DomainRecord& domain : dataset.domains()) {
    names += (names.empty() ? "" : ", ") + domain.name;
  }
  return names;
}

}  // namespace

DocumentOrder::DocumentOrder(const Dataset& dataset, const std::string& order,
                             const std::vector<MixtureWeight>& mixture, uint64_t key)
    : key_(key), is_shuffled_(order == "random"), documents_(base_order(dataset, order)) {
  if (documents_.empty()) {
    throw Error(ExitCode::kData,
                fmt::format("{}: has no training documents, all are held out", dataset.folder()),
                "tokenize again with a smaller --held-out");
  }
  if (!mixture.empty()) {
    set_weights(dataset, mixture);
  }
  lengths_.reserve(documents_.size());
  for (const DocumentNumber number : documents_) {
    const DocumentInfo document = dataset.document(number);
    lengths_.push_back(static_cast<uint32_t>(document.num_tokens));
    if (!weights_.empty()) {
      domain_rows_.push_back(static_cast<uint32_t>(document.domain));
    }
  }
  for (size_t row = 0; row < documents_.size(); ++row) {
    tokens_per_epoch_ += repeats_before(row, 1) * lengths_[row];
  }
}

uint64_t DocumentOrder::fingerprint() const {
  if (is_shuffled_) return 0;
  return hash64(documents_.data(), documents_.size() * sizeof(DocumentNumber));
}

void DocumentOrder::set_weights(const Dataset& dataset, const std::vector<MixtureWeight>& mixture) {
  weights_.assign(dataset.domains().size(), static_cast<uint64_t>(kOne));
  for (const MixtureWeight& entry : mixture) {
    const auto found =
        std::find_if(dataset.domains().begin(), dataset.domains().end(),
                     [&](const DomainRecord& domain) { return domain.name == entry.domain; });
    if (found == dataset.domains().end()) {
      throw Error(ExitCode::kUsage,
                  fmt::format("data.mixture: there is no domain \"{}\" in {}", entry.domain,
                              dataset.folder()),
                  "its domains are: " + domain_names(dataset));
    }
    if (!(entry.weight >= 0 && entry.weight <= kLargestWeight)) {
      throw Error(ExitCode::kUsage,
                  fmt::format("data.mixture.{}: {} is not in 0 .. {}", entry.domain, entry.weight,
                              kLargestWeight),
                  "a weight multiplies the domain's natural share: 1 leaves it as it is");
    }
    const double fixed = std::round(entry.weight * kOne);
    weights_[static_cast<size_t>(found - dataset.domains().begin())] = static_cast<uint64_t>(fixed);
    has_fractions_ = has_fractions_ || entry.weight != std::floor(entry.weight);
  }
}

int64_t DocumentOrder::repeats_before(size_t row, int64_t epoch) const {
  if (weights_.empty()) {
    return epoch;
  }
  const uint64_t weight = weights_[domain_rows_[row]];
  const uint64_t fraction = derive_key({key_, kFraction, documents_[row]}) >> 32;
  // 128 bits: weight takes up to 42, and small data may go through many epochs.
  const auto scaled =
      static_cast<unsigned __int128>(weight) * static_cast<uint64_t>(epoch) + fraction;
  return static_cast<int64_t>(scaled >> 32);
}

int64_t DocumentOrder::cumulative_tokens(int64_t num_epochs) const {
  if (!has_fractions_) {
    return tokens_per_epoch_ * num_epochs;
  }
  int64_t total = 0;
  for (size_t row = 0; row < documents_.size(); ++row) {
    total += repeats_before(row, num_epochs) * lengths_[row];
  }
  return total;
}

std::vector<DocumentNumber> DocumentOrder::epoch(int64_t epoch) const {
  std::vector<DocumentNumber> entries;
  if (weights_.empty()) {
    entries = documents_;
  } else {
    // The copies of a document stand in different passes over the order, not side by side.
    std::vector<uint32_t> repeats(documents_.size());
    for (size_t row = 0; row < documents_.size(); ++row) {
      repeats[row] =
          static_cast<uint32_t>(repeats_before(row, epoch + 1) - repeats_before(row, epoch));
    }
    const uint32_t passes = *std::max_element(repeats.begin(), repeats.end());
    for (uint32_t pass = 0; pass < passes; ++pass) {
      for (size_t row = 0; row < documents_.size(); ++row) {
        if (repeats[row] > pass) {
          entries.push_back(documents_[row]);
        }
      }
    }
  }
  if (!is_shuffled_) {
    return entries;
  }
  const Permutation shuffle(entries.size(),
                            derive_key({key_, kShuffle, static_cast<uint64_t>(epoch)}));
  std::vector<DocumentNumber> shuffled(entries.size());
  for (size_t i = 0; i < shuffled.size(); ++i) {
    shuffled[i] = entries[shuffle(i)];
  }
  return shuffled;
}

}  // namespace lorikeet
