#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lorikeet/similarity/corpus.h"
#include "lorikeet/similarity/duplicates.h"
#include "lorikeet/similarity/encoder.h"
#include "lorikeet/similarity/filters.h"
#include "lorikeet/similarity/neighbours.h"
#include "lorikeet/similarity/path.h"

namespace lorikeet {

/// What is done with duplicates, and with documents that a filter finds.
enum class FindingMode {
  kOff,   ///< not looked for
  kMark,  ///< reported, and kept in the order
  kDrop,  ///< left out of the order, which names them
};

enum class Stage { kEmbed, kNeighbours, kFilter, kDeduplicate, kPath, kOrder };

struct SimilarityOrderOptions {
  size_t num_neighbours = 50;
  FindingMode filters = FindingMode::kMark;
  FilterRule filter_rule = {};
  FindingMode duplicates = FindingMode::kMark;
  DuplicateRule duplicate_rule = {};
  uint64_t seed = 1;
  size_t path_shards = 1;      ///< rows cut into so many paths, walked in parallel and joined
  int64_t improve_passes = 0;  ///< of improve_path
  Stage last = Stage::kOrder;  ///< stop behind this stage
};

/// What the stages found, as far as they were run.
struct SimilarityOrder {
  SimilarityOrder(const Corpus& corpus, const SimilarityOrderOptions& options)
      : corpus(&corpus), options(options) {}

  const Corpus* corpus;
  SimilarityOrderOptions options;  ///< it was made with
  std::unique_ptr<DocumentVectors> vectors;
  NeighbourTable neighbours;
  std::vector<Filter> filters;  ///< per row what is against it; empty: not looked for
  std::optional<Duplicates> duplicates;
  std::vector<bool> is_kept;  ///< per row
  NeighbourGraph graph;       ///< of the kept rows
  Path path;

  size_t num_kept() const;
};

/// Runs the stages embed, neighbours, filter, deduplicate, path and order; what an earlier call
/// left in the folder is taken up. Every process of the crew makes its share of the first two; the
/// one of rank 0 does the rest, the others return nothing.
/// @param output  the order file (docs/data.md)
/// @throws Error(kData) for a folder of other data, damaged files, vectors that are not finite,
/// filters that leave nothing
std::optional<SimilarityOrder> make_similarity_order(const Corpus& corpus, const Encoder& encoder,
                                                     const StageFolder& folder, const Crew& crew,
                                                     const SimilarityOrderOptions& options,
                                                     const std::string& output);

/// Greedy paths of `num_shards` consecutive parts of the rows, joined: no edge between parts is
/// used.
Path sharded_path(const NeighbourGraph& graph, const std::vector<bool>& is_kept,
                  const SimilarityOrderOptions& options, int64_t num_threads);

}  // namespace lorikeet
