#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "lorikeet/similarity/corpus.h"
#include "lorikeet/similarity/neighbours.h"
#include "lorikeet/similarity/stage_folder.h"
#include "lorikeet/similarity/vector_search.h"

namespace lorikeet {

/// The vectors of a corpus, and the search among them.
class DocumentVectors {
 public:
  virtual ~DocumentVectors() = default;

  /// Cosine of two rows.
  virtual float similarity(size_t a, size_t b) const = 0;
  /// By brute force: the truth that a search is measured against.
  virtual std::vector<Neighbour> exact_neighbours(size_t row, size_t k) const = 0;

  /// What the search depends on beside the vectors.
  virtual std::string search_key() const = 0;
  /// Memory may not hold one index of all rows: how many smaller ones there are.
  virtual size_t num_indices() const = 0;
  /// The best k rows in one index for each of the rows first .. last - 1, which are the table's
  /// rows 0, 1, ... Builds the index where it is not the one searched before.
  virtual NeighbourTable search(size_t index, size_t first, size_t last, size_t k,
                                int64_t num_threads) = 0;
};

/// Makes vectors of documents: the stage `embed`.
class Encoder {
 public:
  virtual ~Encoder() = default;

  /// What the vectors depend on beside the data.
  virtual std::string key() const = 0;
  /// Documents in a file of the stage: a killed run loses the work on one.
  virtual size_t block_rows() const = 0;
  /// Makes the stage's files that are missing.
  virtual void embed(const Corpus& corpus, const StageFolder& folder, const Crew& crew) const = 0;
  /// Maps the stage's files. Corpus and folder must outlive what is returned.
  virtual std::unique_ptr<DocumentVectors> open(const Corpus& corpus,
                                                const StageFolder& folder) const = 0;
};

struct LexicalOptions {
  size_t num_terms = 128;      ///< a document's heaviest words that are kept
  size_t max_postings = 2048;  ///< documents an index lists for a word, over all indices
  int64_t memory_bytes = int64_t{4} << 30;  ///< for one index
};

/// BM25-weighted words; no model is needed.
std::unique_ptr<Encoder> make_lexical_encoder(const LexicalOptions& options);

struct DenseOptions {
  std::string model;            ///< directory of a BERT-family encoder
  bool uses_bf16 = false;       ///< weights and activations; vectors are fp32 all the same
  int64_t max_chunks = 1;       ///< of 512 tokens, from the document's beginning; 0: all
  int64_t batch_tokens = 2048;  ///< that a thread, or the GPU, embeds at once
  std::string device = "cpu";   ///< where the model computes, in LibTorch's words: cpu, cuda:1
  SearchOptions search = {};
  int64_t memory_bytes = int64_t{4} << 30;  ///< for one index
};

/// The mean of a BERT-family encoder's last hidden states over the tokens, averaged over chunks,
/// scaled to length one.
std::unique_ptr<Encoder> make_dense_encoder(const DenseOptions& options);

}  // namespace lorikeet
