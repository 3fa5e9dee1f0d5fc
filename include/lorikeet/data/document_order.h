#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "lorikeet/config/run_config.h"
#include "lorikeet/data/dataset.h"

namespace lorikeet {

/// Which documents every epoch reads and in which order: a pure function of (dataset, order,
/// mixture, key).
///
/// `random`: another shuffle each epoch. `similarity` or the path of an order file: that order
/// every epoch.
///
/// Mixture: a domain's weight multiplies its natural share. Document d of a domain with weight w
/// stands floor(w (e+1) + u) - floor(w e + u) times in epoch e, with u in [0, 1) from d's number
/// and the key: weight 2 is twice in every epoch, 0.5 once in every two epochs, 0 never. Weights
/// count in steps of 2^-32.
class DocumentOrder {
 public:
  /// @param key  of the random choices; see derive_key
  /// @throws Error(kUsage) for a mixture with unknown domains or bad weights, Error(kData) for the
  /// file
  DocumentOrder(const Dataset& dataset, const std::string& order,
                const std::vector<MixtureWeight>& mixture, uint64_t key);

  /// Of the order that the file gives; 0 for `random`, which follows from the data.
  uint64_t fingerprint() const;

  /// Tokens of the epochs 0 .. num_epochs - 1 together.
  int64_t cumulative_tokens(int64_t num_epochs) const;
  /// The documents of one epoch, in order. O(documents).
  std::vector<DocumentNumber> epoch(int64_t epoch) const;

 private:
  /// How often a document stands in the epochs before `epoch`.
  int64_t repeats_before(size_t row, int64_t epoch) const;
  void set_weights(const Dataset& dataset, const std::vector<MixtureWeight>& mixture);

  uint64_t key_;
  bool is_shuffled_;
  bool has_fractions_ = false;
  std::vector<DocumentNumber>
      documents_;                      ///< training documents, ascending or as in the order file
  std::vector<uint32_t> lengths_;      ///< of documents_, in tokens
  std::vector<uint32_t> domain_rows_;  ///< of documents_; empty without a mixture
  std::vector<uint64_t> weights_;      ///< per domain, in units of 2^-32; empty without a mixture
  int64_t tokens_per_epoch_ = 0;       ///< where no weight is fractional
};

}  // namespace lorikeet
