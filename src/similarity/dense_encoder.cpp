#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <optional>

#include "aten_threads.h"
#include "lorikeet/core/hash.h"
#include "lorikeet/data/tokenizer.h"
#include "lorikeet/similarity/bert.h"
#include "lorikeet/similarity/encoder.h"
#include "lorikeet/similarity/wordpiece.h"
#include "parallel.h"

namespace lorikeet {

namespace {

constexpr size_t kBlockRows = 1024;
constexpr int64_t kChunkTokens = 512;  // at most, [CLS] and [SEP] around it included
constexpr int64_t kSpecialTokens = 2;
constexpr size_t kSmallestIndex = 1000;  // rows, whatever memory allows
// Searched for beyond those that are wanted. FAISS's scores come from matrix products whose last
// bits may depend on the number of threads; ours don't, so who is at the edge is ours to say.
constexpr int64_t kSpareCandidates = 16;

std::string vector_file(size_t block) { return fmt::format("embeddings_{:06}.stage", block); }

// A stretch of a document that the model sees at once.
struct Chunk {
  size_t row = 0;
  std::vector<int32_t> ids;
};

// In a fixed order of additions, so that similarity(a, b) == similarity(b, a).
float dot(std::span<const float> a, std::span<const float> b) {
  constexpr size_t kLanes = 16;
  float sums[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= a.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) sums[lane] += a[i + lane] * b[i + lane];
  }
  float sum = 0;
  for (; i < a.size(); ++i) sum += a[i] * b[i];
  for (const float lane : sums) sum += lane;
  return sum;
}

class DenseVectors : public DocumentVectors {
 public:
  DenseVectors(const Corpus& corpus, const StageFolder& folder, const std::string& key,
               int64_t dimension, const DenseOptions& options)
      : corpus_(corpus), dimension_(static_cast<size_t>(dimension)), options_(options) {
    for (size_t block = 0; block < corpus.num_blocks(); ++block) {
      files_.push_back(folder.open(vector_file(block), key));
    }
    const auto fits = [&] {
      const size_t rows = (corpus.num_rows() + num_indices_ - 1) / num_indices_;
      return rows <= kSmallestIndex ||
             VectorSearch::memory_bytes(dimension, static_cast<int64_t>(rows), options.search) <=
                 options.memory_bytes;
    };
    while (!fits()) ++num_indices_;
  }

  float similarity(size_t a, size_t b) const override { return dot(of(a), of(b)); }

  std::vector<Neighbour> exact_neighbours(size_t row, size_t k) const override {
    std::vector<Neighbour> found;
    for (size_t other = 0; other < corpus_.num_rows(); ++other) {
      if (other != row) add(row, other, found);
    }
    keep_best(found, k);
    return found;
  }

  std::string search_key() const override {
    return fmt::format(
        "search 2, {} {} probes, {} indices",
        VectorSearch(static_cast<int64_t>(dimension_), rows_in(0), options_.search).description(),
        options_.search.num_probes, num_indices_);
  }
  size_t num_indices() const override { return num_indices_; }

  NeighbourTable search(size_t index, size_t first, size_t last, size_t k,
                        int64_t num_threads) override {
    const AtenThreads of_faiss(static_cast<int64_t>(thread_count(num_threads)));
    open_index(index);
    // One more, since a row finds itself.
    const int64_t wanted = search_->num_candidates(static_cast<int64_t>(k + 1)) + kSpareCandidates;
    const std::vector<int64_t> numbers = search_->search(rows(first, last), wanted);
    NeighbourTable table(last - first, k);
    parallel_for_each(last - first, num_threads, [&](size_t i, size_t) {
      std::vector<Neighbour> found;
      for (int64_t j = 0; j < wanted; ++j) {
        const int64_t number = numbers[i * static_cast<size_t>(wanted) + static_cast<size_t>(j)];
        const size_t row = first_row(index) + static_cast<size_t>(number);
        if (number >= 0 && row != first + i) add(first + i, row, found);
      }
      keep_best(found, k);
      std::copy(found.begin(), found.end(), table.entries.begin() + static_cast<int64_t>(i * k));
    });
    return table;
  }

 private:
  std::span<const float> of(size_t row) const {
    return files_[row / corpus_.block_rows].section<float>(0).subspan(
        row % corpus_.block_rows * dimension_, dimension_);
  }
  // Only what is alike at all is a neighbour: weights of a path must not be negative.
  void add(size_t row, size_t other, std::vector<Neighbour>& found) const {
    const float score = similarity(row, other);
    if (score > 0) found.push_back({.row = static_cast<uint32_t>(other), .score = score});
  }
  std::vector<float> rows(size_t first, size_t last) const {
    std::vector<float> copied;
    copied.reserve((last - first) * dimension_);
    for (size_t row = first; row < last; ++row) {
      const std::span<const float> vector = of(row);
      copied.insert(copied.end(), vector.begin(), vector.end());
    }
    return copied;
  }
  // All of nearly one size: a short last one could be too small for the others' kind.
  size_t first_row(size_t index) const { return corpus_.num_rows() * index / num_indices_; }
  int64_t rows_in(size_t index) const {
    return static_cast<int64_t>(first_row(index + 1) - first_row(index));
  }

  void open_index(size_t index) {
    if (search_ && open_index_ == index) {
      return;
    }
    search_.reset();
    search_.emplace(static_cast<int64_t>(dimension_), rows_in(index), options_.search);
    const size_t begin = first_row(index);
    const size_t end = first_row(index + 1);
    if (search_->needs_training()) {
      const auto count = std::min(end - begin, static_cast<size_t>(search_->sample_size()));
      std::vector<float> sample;
      for (size_t i = 0; i < count; ++i) {
        const std::span<const float> vector = of(begin + (end - begin) * i / count);
        sample.insert(sample.end(), vector.begin(), vector.end());
      }
      search_->train(sample);
    }
    for (size_t row = begin; row < end; row += kBlockRows) {
      search_->add(rows(row, std::min(end, row + kBlockRows)));
    }
    open_index_ = index;
  }

  const Corpus& corpus_;
  size_t dimension_;
  DenseOptions options_;
  size_t num_indices_ = 1;
  std::vector<StageFile> files_;
  std::optional<VectorSearch> search_;
  size_t open_index_ = 0;
};

bool uses_cuda(const DenseOptions& options) { return options.device != "cpu"; }

// Of the files that decide what a model computes, in a fixed order.
uint64_t model_hash(const std::string& directory) {
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    const std::string extension = entry.path().extension().string();
    if (extension == ".safetensors" || extension == ".json" || extension == ".txt") {
      paths.push_back(entry.path().string());
    }
  }
  std::sort(paths.begin(), paths.end());
  Hasher64 hasher;
  for (const std::string& path : paths) {
    hasher.update(MappedFile(path, ExitCode::kCheckpoint).text());
  }
  return hasher.digest();
}

class DenseEncoder : public Encoder {
 public:
  explicit DenseEncoder(const DenseOptions& options)
      : options_(options),
        config_(read_bert_config(options.model)),
        wordpiece_(options.model),
        chunk_tokens_(std::min(config_.max_positions, kChunkTokens)),
        key_(fmt::format("dense 2, model {}, {}, {} chunks{}{}", to_hex(model_hash(options.model)),
                         options.uses_bf16 ? "bf16" : "fp32", options.max_chunks,
                         chunk_tokens_ < config_.max_positions ? " cut short" : "",
                         uses_cuda(options) ? ", cuda" : "")) {
    if (wordpiece_.vocab_size() > config_.vocab_size) {
      throw Error(ExitCode::kCheckpoint,
                  fmt::format("{}: the vocabulary has {} pieces, config.json says {}",
                              options.model, wordpiece_.vocab_size(), config_.vocab_size),
                  "vocabulary and weights must be of one model");
    }
    // Here and not in hours, when the vectors are searched.
    if (options.search.kind == SearchKind::kIvfPq &&
        config_.hidden_size % VectorSearch::kComponentsACode != 0) {
      throw Error(ExitCode::kUsage,
                  fmt::format("--search: ivf-pq needs vectors of a multiple of {} components, {} "
                              "makes them of {}",
                              VectorSearch::kComponentsACode, options.model, config_.hidden_size),
                  "use ivf, or ivf-sq for the memory");
    }
  }

  std::string key() const override { return key_; }
  size_t block_rows() const override { return kBlockRows; }

  void embed(const Corpus& corpus, const StageFolder& folder, const Crew& crew) const override {
    std::vector<std::string> names;
    for (size_t block = 0; block < corpus.num_blocks(); ++block) {
      names.push_back(vector_file(block));
    }
    std::optional<Bert> bert;  // loaded where there is something to do
    std::optional<Tokenizer> tokenizer;
    make_files(folder, crew, "embed", names, key_, [&](size_t block) {
      if (!bert) {
        bert.emplace(options_.model, options_.uses_bf16 ? at::kBFloat16 : at::kFloat,
                     at::Device(options_.device));
        tokenizer.emplace(corpus.dataset->tokenizer_path());
      }
      const std::vector<float> vectors = embed_rows(
          corpus, *tokenizer, *bert, crew, corpus.first_row(block), corpus.first_row(block + 1));
      folder.write(names[block], key_, {bytes_of(vectors)});
    });
  }

  std::unique_ptr<DocumentVectors> open(const Corpus& corpus,
                                        const StageFolder& folder) const override {
    return std::make_unique<DenseVectors>(corpus, folder, key_, config_.hidden_size, options_);
  }

 private:
  std::vector<Chunk> chunks_of(const Corpus& corpus, const Tokenizer& tokenizer, size_t first,
                               size_t last, const Crew& crew) const {
    const auto room = static_cast<size_t>(chunk_tokens_ - kSpecialTokens);
    const size_t most = options_.max_chunks == 0 ? std::numeric_limits<size_t>::max()
                                                 : room * static_cast<size_t>(options_.max_chunks);
    std::vector<std::vector<int32_t>> ids(last - first);
    parallel_for_each(ids.size(), crew.num_threads, [&](size_t i, size_t) {
      ids[i] = wordpiece_.encode(tokenizer.decode(corpus.tokens(first + i)), most);
    });
    std::vector<Chunk> chunks;
    for (size_t i = 0; i < ids.size(); ++i) {
      size_t at = 0;
      do {
        const size_t count = std::min(room, ids[i].size() - at);
        Chunk chunk{.row = i, .ids = {wordpiece_.cls()}};
        chunk.ids.insert(chunk.ids.end(), ids[i].begin() + static_cast<int64_t>(at),
                         ids[i].begin() + static_cast<int64_t>(at + count));
        chunk.ids.push_back(wordpiece_.sep());
        chunks.push_back(std::move(chunk));
        at += count;
      } while (at < ids[i].size());
    }
    // The short ones at the end: so threads are done at nearly one time.
    std::stable_sort(chunks.begin(), chunks.end(),
                     [](const Chunk& a, const Chunk& b) { return a.ids.size() > b.ids.size(); });
    return chunks;
  }

  // Threads take whole batches, and each computes alone: what is in a batch stays in its cache, and
  // bits do not depend on how many threads there are.
  std::vector<float> embed_rows(const Corpus& corpus, const Tokenizer& tokenizer, const Bert& bert,
                                const Crew& crew, size_t first, size_t last) const {
    const std::vector<Chunk> chunks = chunks_of(corpus, tokenizer, first, last, crew);
    const std::vector<size_t> ends = batch_ends(chunks);
    const auto width = static_cast<size_t>(config_.hidden_size);
    std::vector<float> of_chunks(chunks.size() * width);
    const int64_t num_threads = uses_cuda(options_) ? 1 : crew.num_threads;
    const AtenThreads of_caller(1);  // it is one of the workers
    parallel_for_each(ends.size(), num_threads, [&](size_t batch, size_t) {
      at::set_num_threads(1);  // of this thread, which may be new
      const size_t begin = batch == 0 ? 0 : ends[batch - 1];
      const at::Tensor embedded = embed_batch(bert, {&chunks[begin], ends[batch] - begin});
      const float* values = embedded.const_data_ptr<float>();
      std::copy_n(values, embedded.numel(), of_chunks.data() + begin * width);
    });
    std::vector<float> vectors((last - first) * width);
    for (size_t i = 0; i < chunks.size(); ++i) {
      float* out = vectors.data() + chunks[i].row * width;
      for (size_t d = 0; d < width; ++d) out[d] += of_chunks[i * width + d];
    }
    for (size_t row = 0; row < last - first; ++row) {
      scale({vectors.data() + row * width, width}, corpus.documents[first + row]);
    }
    return vectors;
  }

  // Behind the last chunk of each batch: of batch_tokens tokens or a little more.
  std::vector<size_t> batch_ends(const std::vector<Chunk>& chunks) const {
    std::vector<size_t> ends;
    int64_t tokens = 0;
    for (size_t i = 0; i < chunks.size(); ++i) {
      tokens += static_cast<int64_t>(chunks[i].ids.size());
      if (tokens >= options_.batch_tokens || i + 1 == chunks.size()) {
        ends.push_back(i + 1);
        tokens = 0;
      }
    }
    return ends;
  }

  static at::Tensor embed_batch(const Bert& bert, std::span<const Chunk> chunks) {
    std::vector<int64_t> ids;
    std::vector<int64_t> offsets = {0};
    for (const Chunk& chunk : chunks) {
      ids.insert(ids.end(), chunk.ids.begin(), chunk.ids.end());
      offsets.push_back(static_cast<int64_t>(ids.size()));
    }
    return bert.embed(at::tensor(ids), offsets).contiguous();
  }

  // To length one; the sum of the chunks' vectors points where their mean does.
  void scale(std::span<float> vector, DocumentNumber document) const {
    double square = 0;
    for (const float value : vector) square += static_cast<double>(value) * value;
    if (!std::isfinite(square) || square == 0) {
      throw Error(ExitCode::kData,
                  fmt::format("document {}: the encoder {} gives it a vector that is {}", document,
                              options_.model, square == 0 ? "zero" : "not finite"),
                  "are the weights whole? try --precision fp32");
    }
    for (float& value : vector) value = static_cast<float>(value / std::sqrt(square));
  }

  DenseOptions options_;
  BertConfig config_;
  WordPiece wordpiece_;
  int64_t chunk_tokens_;
  std::string key_;
};

}  // namespace

std::unique_ptr<Encoder> make_dense_encoder(const DenseOptions& options) {
  return std::make_unique<DenseEncoder>(options);
}

}  // namespace lorikeet
