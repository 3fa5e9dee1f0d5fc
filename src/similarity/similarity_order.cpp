#include "lorikeet/similarity/similarity_order.h"

#include <algorithm>
#include <cmath>

#include "lorikeet/core/log.h"
#include "lorikeet/data/order_file.h"
#include "lorikeet/data/tokenizer.h"
#include "lorikeet/similarity/words.h"
#include "parallel.h"

namespace lorikeet {

namespace {

constexpr char kFilteredFile[] = "filtered.stage";
constexpr char kDuplicatesFile[] = "duplicates.stage";
constexpr char kPathFile[] = "path.stage";

// One call's run through the stages.
class Stages {
 public:
  Stages(const Corpus& corpus, const Encoder& encoder, const StageFolder& folder, const Crew& crew,
         const SimilarityOrderOptions& options)
      : corpus_(corpus),
        encoder_(encoder),
        folder_(folder),
        crew_(crew),
        options_(options),
        found_(corpus, options) {}

  std::optional<SimilarityOrder> run(const std::string& output) {
    encoder_.embed(corpus_, folder_, crew_);
    found_.vectors = encoder_.open(corpus_, folder_);
    found_.is_kept.assign(corpus_.num_rows(), true);
    if (options_.last >= Stage::kNeighbours) find_neighbours();
    if (crew_.rank != 0) return std::nullopt;
    if (options_.last >= Stage::kNeighbours) read_neighbours();
    if (options_.last >= Stage::kFilter) filter();
    if (options_.last >= Stage::kDeduplicate) deduplicate();
    if (options_.last >= Stage::kPath) find_path();
    if (options_.last >= Stage::kOrder) write_order(output);
    return std::move(found_);
  }

 private:
  std::string filtered_key() const {
    const FilterRule& rule = options_.filter_rule;
    return fmt::format("filters 1, {} {} {} {}", rule.repetitions, rule.longest_repeated,
                       rule.most_frequent, rule.two_most_frequent);
  }
  // Of the neighbours, and of what the filters leave.
  std::string kept_key() const {
    const bool drops = options_.filters == FindingMode::kDrop;
    return drops ? fmt::format("{}; {}", neighbours_key_, filtered_key()) : neighbours_key_;
  }
  std::string duplicates_key() const {
    return fmt::format("{}; duplicates {} {}", kept_key(), options_.duplicate_rule.cosine,
                       options_.duplicate_rule.jaccard);
  }
  std::string path_key() const {
    const bool drops = options_.duplicates == FindingMode::kDrop;
    return fmt::format("{}; path 2 {} {} {}", drops ? duplicates_key() : kept_key(), options_.seed,
                       options_.path_shards, options_.improve_passes);
  }
  std::vector<std::string> neighbour_files(size_t index) const {
    std::vector<std::string> names;
    for (size_t block = 0; block < corpus_.num_blocks(); ++block) {
      names.push_back(fmt::format("neighbours_{:03}_{:05}.stage", index, block));
    }
    return names;
  }

  void find_neighbours() {
    neighbours_key_ = fmt::format("{}; {} neighbours, {}", encoder_.key(), options_.num_neighbours,
                                  found_.vectors->search_key());
    for (size_t index = 0; index < found_.vectors->num_indices(); ++index) {
      const std::vector<std::string> names = neighbour_files(index);
      make_files(folder_, crew_, "neighbours", names, neighbours_key_, [&](size_t block) {
        const NeighbourTable table =
            found_.vectors->search(index, corpus_.first_row(block), corpus_.first_row(block + 1),
                                   options_.num_neighbours, crew_.num_threads);
        folder_.write(names[block], neighbours_key_, {bytes_of(table.entries)});
      });
    }
  }

  // The best of all indices.
  void read_neighbours() {
    const size_t k = options_.num_neighbours;
    found_.neighbours = NeighbourTable(corpus_.num_rows(), k);
    std::vector<Neighbour> merged;
    for (size_t index = 0; index < found_.vectors->num_indices(); ++index) {
      const std::vector<std::string> names = neighbour_files(index);
      for (size_t block = 0; block < names.size(); ++block) {
        const StageFile file = folder_.open(names[block], neighbours_key_);
        const auto entries = file.section<Neighbour>(0);
        for (size_t i = 0; i < entries.size() / k; ++i) {
          Neighbour* row = found_.neighbours.entries.data() + (corpus_.first_row(block) + i) * k;
          merged.assign(row, row + k);
          merged.insert(merged.end(), entries.begin() + static_cast<int64_t>(i * k),
                        entries.begin() + static_cast<int64_t>(i * k + k));
          std::erase_if(merged, [](const Neighbour& n) { return n.row == Neighbour::kNone; });
          keep_best(merged, k);
          std::copy(merged.begin(), merged.end(), row);
        }
      }
    }
  }

  void filter() {
    if (options_.filters == FindingMode::kOff) {
      return;
    }
    if (!folder_.holds(kFilteredFile, filtered_key())) {
      const WordSplitter splitter{Tokenizer(corpus_.dataset->tokenizer_path())};
      std::vector<Filter> made(corpus_.num_rows());
      parallel_for_each(made.size(), crew_.num_threads, [&](size_t row, size_t) {
        const std::vector<int32_t> tokens = corpus_.tokens(row);
        std::vector<uint32_t> words;
        splitter.split(tokens, words);
        made[row] = filter_of(tokens, words, options_.filter_rule);
      });
      folder_.write(kFilteredFile, filtered_key(), {bytes_of(made)});
    }
    const StageFile file = folder_.open(kFilteredFile, filtered_key());
    const auto filters = file.section<Filter>(0);
    found_.filters = {filters.begin(), filters.end()};
    if (options_.filters == FindingMode::kDrop) {
      for (size_t row = 0; row < filters.size(); ++row) {
        found_.is_kept[row] = filters[row] == Filter::kNone;
      }
      if (found_.num_kept() == 0) {
        throw Error(ExitCode::kData,
                    fmt::format("{}: the filters leave none of {} documents",
                                corpus_.dataset->folder(), filters.size()),
                    "--filters mark keeps and counts them, --report says why they go");
      }
    }
  }

  void deduplicate() {
    if (options_.duplicates == FindingMode::kOff) {
      return;
    }
    if (!folder_.holds(kDuplicatesFile, duplicates_key())) {
      const WordSplitter splitter{Tokenizer(corpus_.dataset->tokenizer_path())};
      const Duplicates made = find_duplicates(
          found_.neighbours, found_.is_kept, options_.duplicate_rule,
          [&](size_t row, std::vector<uint32_t>& words) {
            splitter.split(corpus_.tokens(row), words);
          },
          crew_.num_threads);
      folder_.write(kDuplicatesFile, duplicates_key(),
                    {bytes_of(made.original), bytes_of(made.jaccard)});
    }
    const StageFile file = folder_.open(kDuplicatesFile, duplicates_key());
    const auto original = file.section<uint32_t>(0);
    const auto jaccard = file.section<float>(1);
    found_.duplicates = Duplicates{.original = {original.begin(), original.end()},
                                   .jaccard = {jaccard.begin(), jaccard.end()}};
    if (options_.duplicates == FindingMode::kDrop) {
      for (size_t row = 0; row < original.size(); ++row) {
        if (original[row] != Neighbour::kNone) found_.is_kept[row] = false;
      }
    }
  }

  void find_path() {
    found_.graph = symmetrise(found_.neighbours, found_.is_kept);
    if (!folder_.holds(kPathFile, path_key())) {
      Path path = sharded_path(found_.graph, found_.is_kept, options_, crew_.num_threads);
      if (options_.improve_passes > 0) {
        path = improve_path(found_.graph, path, options_.improve_passes);
      }
      folder_.write(kPathFile, path_key(), {bytes_of(path.rows)});
    }
    const StageFile file = folder_.open(kPathFile, path_key());
    const auto rows = file.section<uint32_t>(0);
    found_.path = measure_path(found_.graph, {rows.begin(), rows.end()});
  }

  void write_order(const std::string& output) const {
    std::vector<DocumentNumber> documents;
    for (const uint32_t row : found_.path.rows) {
      documents.push_back(corpus_.documents[row]);
    }
    std::vector<DocumentNumber> dropped;
    for (size_t row = 0; row < found_.is_kept.size(); ++row) {
      if (!found_.is_kept[row]) {
        dropped.push_back(corpus_.documents[row]);
      }
    }
    write_order_file(output, documents, corpus_.dataset->fingerprint(), dropped);
    read_order_file(output, *corpus_.dataset);  // every document once: what training will check
  }

  const Corpus& corpus_;
  const Encoder& encoder_;
  const StageFolder& folder_;
  const Crew& crew_;
  const SimilarityOrderOptions& options_;
  SimilarityOrder found_;
  std::string neighbours_key_;  // set by find_neighbours
};

}  // namespace

size_t SimilarityOrder::num_kept() const {
  return static_cast<size_t>(std::count(is_kept.begin(), is_kept.end(), true));
}

Path sharded_path(const NeighbourGraph& graph, const std::vector<bool>& is_kept,
                  const SimilarityOrderOptions& options, int64_t num_threads) {
  const size_t num_rows = graph.num_rows();
  const size_t num_shards =
      std::clamp<size_t>(options.path_shards, 1, std::max<size_t>(1, num_rows));
  std::vector<Path> paths(num_shards);
  parallel_for_each(num_shards, num_threads, [&](size_t shard, size_t) {
    std::vector<bool> is_here(num_rows);
    for (size_t row = num_rows * shard / num_shards; row < num_rows * (shard + 1) / num_shards;
         ++row) {
      is_here[row] = is_kept[row];
    }
    paths[shard] = greedy_path(graph, is_here, options.seed);
  });
  std::vector<uint32_t> rows;
  for (const Path& path : paths) {
    rows.insert(rows.end(), path.rows.begin(), path.rows.end());
  }
  return measure_path(graph, std::move(rows));
}

std::optional<SimilarityOrder> make_similarity_order(const Corpus& corpus, const Encoder& encoder,
                                                     const StageFolder& folder, const Crew& crew,
                                                     const SimilarityOrderOptions& options,
                                                     const std::string& output) {
  if (corpus.num_rows() == 0) {
    throw Error(
        ExitCode::kData,
        fmt::format("{}: has no training documents, all are held out", corpus.dataset->folder()),
        "tokenize again with a smaller --held-out");
  }
  return Stages(corpus, encoder, folder, crew, options).run(output);
}

}  // namespace lorikeet
