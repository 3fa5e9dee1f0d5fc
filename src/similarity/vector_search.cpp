// The only file that sees FAISS.
#include "lorikeet/similarity/vector_search.h"

#include <faiss/index_factory.h>
#include <faiss/IndexIVFPQ.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace lorikeet {

namespace {

constexpr int64_t kMostExact = 200'000;
constexpr int64_t kSampleAList = 64;  // FAISS warns below 39
// FAISS learns product codes from up to 256 vectors a centroid in 25 rounds, minutes of one core;
// what is found is scored again, so rougher codes do. From fewer vectors than centroids it learns
// none.
constexpr int64_t kCodeCentroids = 256;
constexpr int kCodeRounds = 8;
constexpr int64_t kCandidatesOfCodes = 8;

SearchKind resolved(SearchKind kind, int64_t num_vectors) {
  if (kind == SearchKind::kIvfPq && num_vectors < kCodeCentroids) {
    return SearchKind::kExact;
  }
  if (kind != SearchKind::kAuto) {
    return kind;
  }
  return num_vectors <= kMostExact ? SearchKind::kExact : SearchKind::kIvf;
}

int64_t lists_for(int64_t num_vectors) {
  return std::clamp<int64_t>(std::llround(4 * std::sqrt(static_cast<double>(num_vectors))), 1,
                             std::max<int64_t>(1, num_vectors / kSampleAList));
}

int64_t sample_for(int64_t num_lists) {
  return std::max<int64_t>(num_lists, kCodeCentroids) * kSampleAList;
}

}  // namespace

struct VectorSearch::Index {
  std::unique_ptr<faiss::Index> faiss;
};

VectorSearch::VectorSearch(int64_t dimension, int64_t num_vectors, const SearchOptions& options)
    : dimension_(dimension),
      kind_(resolved(options.kind, num_vectors)),
      index_(std::make_unique<Index>()) {
  if (kind_ == SearchKind::kExact) {
    description_ = "Flat";
  } else {
    num_lists_ = lists_for(num_vectors);
    const std::string codes = kind_ == SearchKind::kIvf ? "Flat"
                              : kind_ == SearchKind::kIvfSq
                                  ? "SQ8"
                                  : fmt::format("PQ{}", dimension / kComponentsACode);
    description_ = fmt::format("IVF{},{}", num_lists_, codes);
  }
  index_->faiss.reset(faiss::index_factory(static_cast<int>(dimension), description_.c_str(),
                                           faiss::METRIC_INNER_PRODUCT));
  if (auto* lists = dynamic_cast<faiss::IndexIVF*>(index_->faiss.get())) {
    lists->nprobe = static_cast<size_t>(std::min(options.num_probes, num_lists_));
  }
  if (auto* codes = dynamic_cast<faiss::IndexIVFPQ*>(index_->faiss.get())) {
    codes->pq.cp.niter = kCodeRounds;
    codes->pq.cp.max_points_per_centroid = kSampleAList;
  }
}

VectorSearch::~VectorSearch() = default;

bool VectorSearch::needs_training() const { return !index_->faiss->is_trained; }

int64_t VectorSearch::memory_bytes(int64_t dimension, int64_t num_vectors,
                                   const SearchOptions& options) {
  constexpr int64_t kNumber = 8;  // of a vector, beside it in its list
  const int64_t whole = dimension * int64_t{sizeof(float)};
  const SearchKind kind = resolved(options.kind, num_vectors);
  if (kind == SearchKind::kExact) {
    return num_vectors * whole;
  }
  const int64_t code = kind == SearchKind::kIvf     ? whole
                       : kind == SearchKind::kIvfSq ? dimension
                                                    : dimension / kComponentsACode;
  const int64_t num_lists = lists_for(num_vectors);
  const int64_t sample = std::min(num_vectors, sample_for(num_lists));
  return num_vectors * (code + kNumber) + (sample + num_lists) * whole;
}

int64_t VectorSearch::sample_size() const { return sample_for(num_lists_); }

int64_t VectorSearch::num_candidates(int64_t k) const {
  return kind_ == SearchKind::kIvfPq ? kCandidatesOfCodes * k : k;
}

void VectorSearch::train(std::span<const float> sample) {
  index_->faiss->train(static_cast<int64_t>(sample.size()) / dimension_, sample.data());
}

void VectorSearch::add(std::span<const float> vectors) {
  index_->faiss->add(static_cast<int64_t>(vectors.size()) / dimension_, vectors.data());
}

std::vector<int64_t> VectorSearch::search(std::span<const float> queries, int64_t k) const {
  const int64_t count = static_cast<int64_t>(queries.size()) / dimension_;
  std::vector<float> scores(static_cast<size_t>(count * k));
  std::vector<int64_t> numbers(scores.size());
  index_->faiss->search(count, queries.data(), k, scores.data(), numbers.data());
  return numbers;
}

}  // namespace lorikeet
