#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace lorikeet {

enum class SearchKind {
  kAuto,   ///< exact up to 200,000 vectors, IVF above
  kExact,  ///< every vector is compared
  kIvf,    ///< inverted file, vectors as they are
  kIvfSq,  ///< ... in 8 bits a component
  kIvfPq,  ///< ... product-quantised, 8 components a byte
};

struct SearchOptions {
  SearchKind kind = SearchKind::kAuto;
  int64_t num_probes = 32;  ///< lists that an IVF search reads
};

/// Maximum inner product search by FAISS. Which candidates it finds may differ by rounding between
/// machines; the caller scores them.
class VectorSearch {
 public:
  static constexpr int64_t kComponentsACode = 8;  ///< of kIvfPq

  /// Product codes of fewer than 256 vectors cannot be learnt: these are searched exactly.
  /// @param dimension  for kIvfPq a multiple of kComponentsACode
  /// @param num_vectors  that will be added: decides what kAuto is and how many lists there are
  VectorSearch(int64_t dimension, int64_t num_vectors, const SearchOptions& options);
  ~VectorSearch();

  /// Of an index of so many vectors with the sample that it learns from, without what lists that
  /// grow have in reserve.
  static int64_t memory_bytes(int64_t dimension, int64_t num_vectors, const SearchOptions& options);

  /// Learns the lists of an IVF index from a sample. Nothing for an exact one.
  void train(std::span<const float> sample);
  bool needs_training() const;
  /// How many vectors train() wants.
  int64_t sample_size() const;
  void add(std::span<const float> vectors);
  /// How many to search for where the best k are wanted and all that are found are scored again:
  /// codes rank only roughly.
  int64_t num_candidates(int64_t k) const;
  /// @return for each query k numbers of vectors in the order of add(), best first; -1 where there
  /// are fewer
  std::vector<int64_t> search(std::span<const float> queries, int64_t k) const;
  /// How FAISS's index factory names the index.
  const std::string& description() const { return description_; }

 private:
  struct Index;
  int64_t dimension_;
  int64_t num_lists_ = 0;
  SearchKind kind_;  ///< not kAuto
  std::string description_;
  std::unique_ptr<Index> index_;
};

}  // namespace lorikeet
