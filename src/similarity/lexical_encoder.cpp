#include <algorithm>
#include <optional>
#include <unordered_map>

#include "lorikeet/data/tokenizer.h"
#include "lorikeet/similarity/encoder.h"
#include "lorikeet/similarity/inverted_index.h"
#include "lorikeet/similarity/words.h"
#include "parallel.h"

namespace lorikeet {

namespace {

constexpr char kVocabularyFile[] = "vocabulary.stage";
constexpr size_t kRowsAPiece = 128;  // what a thread takes at a time
// A word's row and weight in the vectors and in the index, and what building the index adds.
constexpr int64_t kBytesATerm = 8 + 8;

std::string vector_file(size_t block) { return fmt::format("vectors_{:05}.stage", block); }

// Counts in how many documents each word stands.
Vocabulary count_words(const Corpus& corpus, int64_t num_threads) {
  const WordSplitter splitter{Tokenizer(corpus.dataset->tokenizer_path())};
  struct Counts {
    std::unordered_map<uint32_t, uint32_t> frequencies;
    uint64_t words = 0;
  };
  std::vector<Counts> of_threads(thread_count(num_threads));
  const size_t pieces = (corpus.num_rows() + kRowsAPiece - 1) / kRowsAPiece;
  parallel_for_each(pieces, num_threads, [&](size_t piece, size_t thread) {
    Counts& mine = of_threads[thread];
    std::vector<uint32_t> words;
    std::vector<TermCount> counts;
    const size_t last = std::min(corpus.num_rows(), (piece + 1) * kRowsAPiece);
    for (size_t row = piece * kRowsAPiece; row < last; ++row) {
      splitter.split(corpus.tokens(row), words);
      mine.words += words.size();
      count_terms(words, counts);
      for (const TermCount& entry : counts) {
        ++mine.frequencies[entry.term];
      }
    }
  });
  Counts all = std::move(of_threads[0]);
  for (size_t thread = 1; thread < of_threads.size(); ++thread) {
    all.words += of_threads[thread].words;
    for (const auto& [term, count] : of_threads[thread].frequencies) {
      all.frequencies[term] += count;
    }
  }
  Vocabulary vocabulary;
  vocabulary.num_documents = corpus.num_rows();
  vocabulary.mean_length =
      std::max(1.0, static_cast<double>(all.words) / static_cast<double>(corpus.num_rows()));
  for (const auto& [term, count] : all.frequencies) {
    if (count > 1) {
      vocabulary.terms.push_back(term);
    }
  }
  std::sort(vocabulary.terms.begin(), vocabulary.terms.end());
  for (const uint32_t term : vocabulary.terms) {
    vocabulary.frequencies.push_back(all.frequencies[term]);
  }
  return vocabulary;
}

void write_vocabulary(const StageFolder& folder, const std::string& key,
                      const Vocabulary& vocabulary) {
  const std::vector<uint64_t> documents = {vocabulary.num_documents};
  const std::vector<double> length = {vocabulary.mean_length};
  folder.write(kVocabularyFile, key,
               {bytes_of(vocabulary.terms), bytes_of(vocabulary.frequencies), bytes_of(documents),
                bytes_of(length)});
}

Vocabulary read_vocabulary(const StageFolder& folder, const std::string& key) {
  const StageFile file = folder.open(kVocabularyFile, key);
  const auto terms = file.section<uint32_t>(0);
  const auto frequencies = file.section<uint32_t>(1);
  return {.terms = {terms.begin(), terms.end()},
          .frequencies = {frequencies.begin(), frequencies.end()},
          .num_documents = file.section<uint64_t>(2)[0],
          .mean_length = file.section<double>(3)[0]};
}

TermVectors embed_rows(const Corpus& corpus, const WordSplitter& splitter,
                       const Vocabulary& vocabulary, size_t first, size_t last, size_t num_terms) {
  TermVectors vectors;
  std::vector<uint32_t> words;
  std::vector<TermCount> counts;
  for (size_t row = first; row < last; ++row) {
    splitter.split(corpus.tokens(row), words);
    count_terms(words, counts);
    append_bm25_vector(vocabulary, counts, num_terms, vectors);
  }
  return vectors;
}

void append(TermVectors& vectors, const TermVectors& more) {
  const uint64_t before = vectors.begins.back();
  for (size_t row = 1; row < more.begins.size(); ++row) {
    vectors.begins.push_back(before + more.begins[row]);
  }
  vectors.terms.insert(vectors.terms.end(), more.terms.begin(), more.terms.end());
  vectors.weights.insert(vectors.weights.end(), more.weights.begin(), more.weights.end());
}

class LexicalVectors : public DocumentVectors {
 public:
  LexicalVectors(const Corpus& corpus, const StageFolder& folder, const std::string& key,
                 const LexicalOptions& options)
      : options_(options), num_terms_(read_vocabulary(folder, key).terms.size()) {
    for (size_t block = 0; block < corpus.num_blocks(); ++block) {
      const StageFile& file = files_.emplace_back(folder.open(vector_file(block), key));
      vectors_.add({file.section<uint64_t>(0), file.section<uint32_t>(1), file.section<float>(2)});
    }
    const auto rows = static_cast<int64_t>(options.memory_bytes /
                                           (kBytesATerm * static_cast<int64_t>(options.num_terms)));
    rows_an_index_ = static_cast<size_t>(std::max<int64_t>(1000, rows));
  }

  float similarity(size_t a, size_t b) const override {
    return dot(vectors_.of(a), vectors_.of(b));
  }

  std::vector<Neighbour> exact_neighbours(size_t row, size_t k) const override {
    std::vector<Neighbour> found;
    for (size_t other = 0; other < vectors_.num_rows(); ++other) {
      const float score = other == row ? 0 : similarity(row, other);
      if (score > 0) {
        found.push_back({.row = static_cast<uint32_t>(other), .score = score});
      }
    }
    keep_best(found, k);
    return found;
  }

  std::string search_key() const override {
    return fmt::format("postings {}, indices {}", options_.max_postings, num_indices());
  }
  size_t num_indices() const override {
    return (vectors_.num_rows() + rows_an_index_ - 1) / rows_an_index_;
  }

  NeighbourTable search(size_t index, size_t first, size_t last, size_t k,
                        int64_t num_threads) override {
    open_index(index);
    NeighbourTable table(last - first, k);
    std::vector<InvertedIndex::Scratch> scratches(thread_count(num_threads));
    std::vector<std::vector<Neighbour>> found(scratches.size());
    parallel_for_each(last - first, num_threads, [&](size_t i, size_t thread) {
      index_->search(vectors_.of(first + i), static_cast<uint32_t>(first + i), k, scratches[thread],
                     found[thread]);
      std::copy(found[thread].begin(), found[thread].end(),
                table.entries.begin() + static_cast<int64_t>(i * k));
    });
    return table;
  }

 private:
  void open_index(size_t index) {
    if (index_ && open_index_ == index) {
      return;
    }
    index_.reset();
    const size_t first = index * rows_an_index_;
    const size_t last = std::min(vectors_.num_rows(), first + rows_an_index_);
    // The whole corpus' limit is shared by the indices, so that a search costs the same in all.
    const size_t postings = std::max<size_t>(1, options_.max_postings / num_indices());
    index_.emplace(vectors_, first, last, num_terms_, postings);
    open_index_ = index;
  }

  LexicalOptions options_;
  size_t num_terms_;
  size_t rows_an_index_ = 0;
  std::vector<StageFile> files_;
  TermVectorSet vectors_;
  std::optional<InvertedIndex> index_;
  size_t open_index_ = 0;
};

class LexicalEncoder : public Encoder {
 public:
  explicit LexicalEncoder(const LexicalOptions& options) : options_(options) {}

  std::string key() const override {
    return fmt::format("lexical 1, {} terms", options_.num_terms);
  }

  size_t block_rows() const override { return Corpus::kBlockRows; }

  void embed(const Corpus& corpus, const StageFolder& folder, const Crew& crew) const override {
    make_files(folder, crew, "words", {kVocabularyFile}, key(), [&](size_t) {
      write_vocabulary(folder, key(), count_words(corpus, crew.num_threads));
    });
    const Vocabulary vocabulary = read_vocabulary(folder, key());
    const WordSplitter splitter{Tokenizer(corpus.dataset->tokenizer_path())};
    std::vector<std::string> names;
    for (size_t block = 0; block < corpus.num_blocks(); ++block) {
      names.push_back(vector_file(block));
    }
    make_files(folder, crew, "embed", names, key(), [&](size_t block) {
      const size_t begin = corpus.first_row(block);
      const size_t end = corpus.first_row(block + 1);
      std::vector<TermVectors> pieces((end - begin + kRowsAPiece - 1) / kRowsAPiece);
      parallel_for_each(pieces.size(), crew.num_threads, [&](size_t piece, size_t) {
        const size_t first = begin + piece * kRowsAPiece;
        pieces[piece] = embed_rows(corpus, splitter, vocabulary, first,
                                   std::min(end, first + kRowsAPiece), options_.num_terms);
      });
      TermVectors vectors;
      for (const TermVectors& piece : pieces) {
        append(vectors, piece);
      }
      folder.write(names[block], key(),
                   {bytes_of(vectors.begins), bytes_of(vectors.terms), bytes_of(vectors.weights)});
    });
  }

  std::unique_ptr<DocumentVectors> open(const Corpus& corpus,
                                        const StageFolder& folder) const override {
    return std::make_unique<LexicalVectors>(corpus, folder, key(), options_);
  }

 private:
  LexicalOptions options_;
};

}  // namespace

std::unique_ptr<Encoder> make_lexical_encoder(const LexicalOptions& options) {
  return std::make_unique<LexicalEncoder>(options);
}

}  // namespace lorikeet
