// WordPiece, the BERT encoder on small random weights, FAISS, and orders made with them. That real
// weights give what `transformers` gives is encoder_check.py's.
#include <ATen/ATen.h>

#include <filesystem>
#include <random>

#include "lorikeet/data/order_file.h"
#include "lorikeet/data/tokenizer.h"
#include "lorikeet/similarity/bert.h"
#include "lorikeet/similarity/similarity_order.h"
#include "lorikeet/similarity/wordpiece.h"
#include "lorikeet/storage/safetensors.h"
#include "tests/data/data_testing.h"

namespace lorikeet {
namespace {

using data_testing::error_of;
using data_testing::line;
using data_testing::TemporaryFolder;
using data_testing::write_text;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kConfig[] =
    R"({"model_type": "bert", "vocab_size": 24, "hidden_size": 16, "num_hidden_layers": 2,
  "num_attention_heads": 4, "intermediate_size": 32, "max_position_embeddings": 12, "type_vocab_size": 2})";
constexpr char kVocabulary[] =
    "[PAD]\n[UNK]\n[CLS]\n[SEP]\nthe\nrun\n##ning\n##s\n##n\nfast\ncafe\n!\n,\na\n##"
    "b\nb\nc\nd\ne\nf\n"
    "1\n2\n##2\n\xe8\xa8\x80\n";

NamedTensors random_weights(const std::string& prefix = "") {
  at::manual_seed(1);
  NamedTensors weights;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
    weights.emplace_back(prefix + name, at::randn(shape) * 0.5);
  };
  const auto dense = [&](const std::string& name, int64_t in, int64_t out) {
    add(name + ".weight", {out, in});
    add(name + ".bias", {out});
  };
  const auto norm = [&](const std::string& name) {
    add(name + ".LayerNorm.weight", {16});
    add(name + ".LayerNorm.bias", {16});
  };
  add("embeddings.word_embeddings.weight", {24, 16});
  add("embeddings.position_embeddings.weight", {12, 16});
  add("embeddings.token_type_embeddings.weight", {2, 16});
  norm("embeddings");
  for (const std::string layer : {"encoder.layer.0.", "encoder.layer.1."}) {
    for (const char* part : {"query", "key", "value"}) {
      dense(layer + "attention.self." + part, 16, 16);
    }
    dense(layer + "attention.output.dense", 16, 16);
    norm(layer + "attention.output");
    dense(layer + "intermediate.dense", 16, 32);
    dense(layer + "output.dense", 32, 16);
    norm(layer + "output");
  }
  return weights;
}

class Dense : public ::testing::Test {
 protected:
  Dense() {
    std::filesystem::create_directory(model_);
    write_text(model_ + "/config.json", kConfig);
    write_text(model_ + "/vocab.txt", kVocabulary);
    save_safetensors(model_ + "/model.safetensors", random_weights());
  }
  TemporaryFolder folder_;
  std::string model_ = folder_ / "model";
};

TEST_F(Dense, WordPieceTakesTheLongestPiecesOfCleanedWords) {
  const WordPiece pieces(model_);
  EXPECT_THAT(pieces.encode("The runnings", 9), ElementsAre(4, 5, 6, 7));
  EXPECT_THAT(pieces.encode("RUN, CAF\u00c9!", 9), ElementsAre(5, 12, 10, 11));
  EXPECT_THAT(pieces.encode("runz", 9), ElementsAre(1));  // one unknown piece: the whole word
  EXPECT_THAT(pieces.encode("a\t\x01\x62\nb", 9), ElementsAre(13, 15, 15));
  EXPECT_THAT(pieces.encode("ab", 9), ElementsAre(13, 14));
  EXPECT_THAT(pieces.encode("a\u8a00b", 9), ElementsAre(13, 23, 15));
  EXPECT_THAT(pieces.encode("a b c d", 2), ElementsAre(13, 15));
  EXPECT_THAT(pieces.encode("a\xff\xfe", 9), ElementsAre(13));  // no UTF-8
  EXPECT_TRUE(pieces.encode("", 9).empty());
  EXPECT_THAT(pieces.encode("1" + std::string(99, '2'), 200).size(), 100u);
  EXPECT_THAT(pieces.encode("1" + std::string(100, '2'), 200), ElementsAre(1));
}

TEST_F(Dense, WordPieceReadsTokenizerJsonToo) {
  std::filesystem::remove(model_ + "/vocab.txt");
  write_text(model_ + "/tokenizer.json",
             R"({"model": {"vocab": {"[CLS]": 0, "[SEP]": 1, "[UNK]": 2, "The": 3, "the": 4}}})");
  EXPECT_THAT(WordPiece(model_).encode("The", 9), ElementsAre(4));
  write_text(model_ + "/tokenizer_config.json", R"({"do_lower_case": false})");
  EXPECT_THAT(WordPiece(model_).encode("The", 9), ElementsAre(3));
}

TEST_F(Dense, WordPieceFollowsTokenizerJsonWhereNothingElseSpeaks) {
  std::filesystem::remove(model_ + "/vocab.txt");
  const auto write = [&](const std::string& normaliser) {
    write_text(model_ + "/tokenizer.json",
               R"({"normalizer": )" + normaliser +
                   R"(, "model": {"type": "WordPiece", "vocab": {"[CLS]": 0, "[SEP]": 1,
                      "[UNK]": 2, "The": 3, "the": 4, "caf\u00e9": 5, "cafe": 6}}})");
  };
  const auto ids = [&] { return WordPiece(model_).encode("The caf\u00e9", 9); };
  write("null");
  EXPECT_THAT(ids(), ElementsAre(4, 6));
  write(R"({"type": "BertNormalizer", "lowercase": false, "strip_accents": null})");
  EXPECT_THAT(ids(), ElementsAre(3, 5));
  write(R"({"type": "BertNormalizer", "lowercase": true, "strip_accents": false})");
  EXPECT_THAT(ids(), ElementsAre(4, 5));
  write_text(model_ + "/tokenizer_config.json", R"({"strip_accents": true})");
  EXPECT_THAT(ids(), ElementsAre(4, 6));
}

TEST_F(Dense, WordPieceRefusesOtherTokenizersAndBrokenOnes) {
  std::filesystem::remove(model_ + "/vocab.txt");
  const auto message = [&](const std::string& json) {
    write_text(model_ + "/tokenizer.json", json);
    return error_of([&] { WordPiece pieces(model_); }, ExitCode::kCheckpoint);
  };
  EXPECT_THAT(message(R"({"model": {"type": "BPE", "vocab": {"a": 0}}})"),
              HasSubstr("tokenizer.json: model.type: \"BPE\" is not WordPiece"));
  EXPECT_THAT(message(R"({"model": {"merges": [], "vocab": {"a": 0}}})"), HasSubstr("BPE"));
  EXPECT_THAT(message(R"({"model": {"vocab": {"a": "0"}}})"),
              HasSubstr("tokenizer.json: model.vocab: the piece 'a' has the number \"0\""));
  EXPECT_THAT(message(R"({"model": )"), HasSubstr("tokenizer.json: is not JSON: broken at byte"));
  EXPECT_THAT(message(R"({"normalizer": {"type": "NFC"}, "model": {"vocab": {"a": 0}}})"),
              HasSubstr("normalizer.type"));
  EXPECT_THAT(message(R"({"normalizer": {"type": "BertNormalizer", "lowercase": 1},
                          "model": {"vocab": {"a": 0}}})"),
              HasSubstr("tokenizer.json: lowercase: is neither true nor false"));
}

at::Tensor embed(const Bert& bert, const std::vector<int64_t>& ids) {
  return bert.embed(at::tensor(ids), {0, static_cast<int64_t>(ids.size())})[0];
}

TEST_F(Dense, BertSeesOrderAndNoOtherText) {
  const Bert bert(model_, at::kFloat);
  const at::Tensor plain = embed(bert, {2, 4, 5, 9, 3});
  ASSERT_EQ(plain.sizes(), at::IntArrayRef({16}));
  EXPECT_GT((embed(bert, {2, 5, 4, 9, 3}) - plain).abs().max().item<float>(), 1e-2);
  const at::Tensor several =
      bert.embed(at::tensor({2, 7, 3, 2, 4, 5, 9, 3, 6}, at::kLong), {0, 3, 8, 9});
  EXPECT_TRUE(at::equal(several[1], plain));
  const Bert half(model_, at::kBFloat16);  // 8 bits of mantissa, through 2 layers
  EXPECT_LT((embed(half, {2, 4, 5, 9, 3}) - plain).abs().max().item<float>(), 0.1);
}

TEST_F(Dense, BertReadsNamesWithAPrefix) {
  const at::Tensor plain = embed(Bert(model_, at::kFloat), {2, 4, 3});
  save_safetensors(model_ + "/model.safetensors", random_weights("bert."));
  EXPECT_TRUE(at::equal(embed(Bert(model_, at::kFloat), {2, 4, 3}), plain));
}

TEST_F(Dense, BertRefusesWhatIsNoEncoder) {
  const auto message = [&] {
    return error_of([&] { make_dense_encoder({.model = model_})->key(); }, ExitCode::kCheckpoint);
  };
  const auto weights = [&] {
    return error_of([&] { Bert(model_, at::kFloat); }, ExitCode::kCheckpoint);
  };
  NamedTensors wrong = random_weights();
  wrong[0].second = at::zeros({24, 17});
  save_safetensors(model_ + "/model.safetensors", wrong);
  EXPECT_THAT(weights(), HasSubstr("[24, 17], config.json asks for [24, 16]"));
  wrong = random_weights();
  wrong.pop_back();
  save_safetensors(model_ + "/model.safetensors", wrong);
  EXPECT_THAT(weights(), HasSubstr("no tensor encoder.layer.1.output.LayerNorm.bias"));
  write_text(model_ + "/config.json", R"({"model_type": "llama"})");
  EXPECT_THAT(message(), HasSubstr("model_type: 'llama' is not bert"));
  write_text(model_ + "/config.json", R"({"vocab_size": 3})");
  EXPECT_THAT(message(), HasSubstr("hidden_size: is missing"));
  std::string config = kConfig;
  config.replace(config.find("12,"), 2, "2");
  write_text(model_ + "/config.json", config);
  EXPECT_THAT(message(), HasSubstr("max_position_embeddings: 2 leaves no room"));
  config.insert(config.size() - 1, R"(, "layer_norm_eps": "small")");
  write_text(model_ + "/config.json", config);
  EXPECT_THAT(message(), HasSubstr("layer_norm_eps: is not a number"));
  write_text(model_ + "/config.json", kConfig);
  EXPECT_THAT(error_of(
                  [&] {
                    config = kConfig;
                    config.replace(config.find("16,"), 2, "20");
                    write_text(model_ + "/config.json", config);
                    make_dense_encoder({.model = model_, .search = {.kind = SearchKind::kIvfPq}});
                  },
                  ExitCode::kUsage),
              HasSubstr("ivf-pq needs vectors of a multiple of 8 components"));
  write_text(model_ + "/config.json", kConfig);
  std::filesystem::remove(model_ + "/vocab.txt");
  EXPECT_THAT(message(), HasSubstr("has neither vocab.txt nor"));
  model_ = folder_ / "nowhere";
  EXPECT_THAT(message(), HasSubstr("nowhere"));
}

class DenseOrders : public Dense {
 protected:
  DenseOrders() {
    std::mt19937 random(1);
    std::string lines;
    for (int i = 0; i < 60; ++i) {
      std::string text = "a" + std::to_string(i);
      for (unsigned words = random() % 30; words > 0; --words) {
        text += std::string(" ") + static_cast<char>('a' + random() % 6);
      }
      lines += line(text);
    }
    data_.emplace(data_testing::make_dataset(folder_, lines));
    corpus_.emplace(*data_, 1024);
  }
  std::optional<SimilarityOrder> make(const DenseOptions& dense, const std::string& work,
                                      int64_t num_threads = 0) {
    const StageFolder folder(folder_ / work, data_->fingerprint(), false);
    return make_similarity_order(*corpus_, *make_dense_encoder(dense), folder,
                                 {.num_threads = num_threads}, {.num_neighbours = 8},
                                 folder_ / "my.order");
  }
  std::optional<Dataset> data_;
  std::optional<Corpus> corpus_;
};

TEST_F(DenseOrders, HaveTheExactNeighboursOfTheirVectors) {
  const auto made = make({.model = model_}, "work");
  for (size_t row = 0; row < corpus_->num_rows(); ++row) {
    const auto exact = made->vectors->exact_neighbours(row, 8);
    const auto found = made->neighbours.of(row);
    EXPECT_EQ(std::vector<Neighbour>(found.begin(), found.end()), exact) << row;
    EXPECT_NEAR(made->vectors->similarity(row, row), 1, 1e-5);
  }
  EXPECT_EQ(read_order_file(folder_ / "my.order", *data_).size(), corpus_->num_rows());
}

TEST_F(DenseOrders, AverageTheChunksOfLongDocuments) {
  const auto one = make({.model = model_, .max_chunks = 1}, "one");
  const auto all = make({.model = model_, .max_chunks = 0, .batch_tokens = 16}, "all");
  const WordPiece pieces(model_);
  const Bert bert(model_, at::kFloat);
  const Tokenizer tokenizer(data_->tokenizer_path());
  int64_t with_more = 0;
  std::vector<at::Tensor> expected;
  for (size_t row = 0; row < 12; ++row) {
    const auto ids = pieces.encode(tokenizer.decode(corpus_->tokens(row)), 1000);
    at::Tensor sum = at::zeros({16});
    for (size_t begin = 0; begin < ids.size(); begin += 10) {
      std::vector<int64_t> chunk = {pieces.cls()};
      for (size_t i = begin; i < std::min(ids.size(), begin + 10); ++i) chunk.push_back(ids[i]);
      chunk.push_back(pieces.sep());
      sum += embed(bert, chunk);
    }
    with_more += ids.size() > 10;
    expected.push_back(sum / sum.norm());
  }
  ASSERT_GT(with_more, 5);
  int64_t changed = 0;
  for (size_t a = 0; a < 12; ++a) {
    for (size_t b = 0; b < a; ++b) {
      EXPECT_NEAR(all->vectors->similarity(a, b), expected[a].dot(expected[b]).item<float>(), 1e-4);
      changed += std::abs(one->vectors->similarity(a, b) - all->vectors->similarity(a, b)) > 1e-3;
    }
  }
  EXPECT_GT(changed, 10);
}

TEST_F(DenseOrders, AreTheSameForAnyThreadsAndWhereverTheyAreTakenUpAgain) {
  const DenseOptions dense{.model = model_, .batch_tokens = 32};
  make(dense, "work", 1);
  const std::string vectors = data_testing::read_text(folder_ / "work/embeddings_000000.stage");
  const std::string expected = data_testing::read_text(folder_ / "my.order");
  make(dense, "three", 3);
  EXPECT_EQ(data_testing::read_text(folder_ / "three/embeddings_000000.stage"), vectors);
  EXPECT_EQ(data_testing::read_text(folder_ / "my.order"), expected);
  for (const auto& entry : std::filesystem::directory_iterator(folder_ / "work")) {
    std::filesystem::remove(entry.path());
    std::filesystem::remove(folder_ / "my.order");
    make(dense, "work", 2);
    EXPECT_EQ(data_testing::read_text(folder_ / "my.order"), expected) << entry.path();
  }
}

TEST_F(DenseOrders, ComeOutOfOneDocumentOfCopiesAndOfDocumentsWithoutPieces) {
  std::string copies;
  for (int i = 0; i < 30; ++i) copies += line("the fast run");
  for (const std::string& lines : {line("run"), copies, copies + line(" ") + line("\\u0001")}) {
    TemporaryFolder here;
    const Dataset data(data_testing::make_dataset(here, lines));
    const Corpus corpus(data, 8);
    const StageFolder folder(here / "work", data.fingerprint(), false);
    make_similarity_order(corpus, *make_dense_encoder({.model = model_}), folder, {},
                          {.num_neighbours = 8}, here / "my.order");
    EXPECT_EQ(read_order_file(here / "my.order", data).size(), corpus.num_rows());
  }
}

// One of 2,048 positions gives a long document the vector that one of its first 512 gives.
TEST_F(DenseOrders, ComeFromChunksOf512TokensWhateverTheModelAllows) {
  const auto write_model = [&](int64_t positions) {
    std::string config = kConfig;
    config.replace(config.find("12,"), 2, std::to_string(positions));
    write_text(model_ + "/config.json", config);
    NamedTensors weights = random_weights();
    at::manual_seed(3);
    weights[1].second = at::randn({2048, 16}).slice(0, 0, positions).clone();
    save_safetensors(model_ + "/model.safetensors", weights);
  };
  std::string text = "a";
  for (int i = 0; i < 700; ++i) text += i % 3 == 0 ? " b" : " c";
  TemporaryFolder here;
  const Dataset data(data_testing::make_dataset(here, line(text) + line("the fast run")));
  const Corpus corpus(data, 8);
  std::vector<float> cosines;
  for (const int64_t positions : {512, 2048}) {
    write_model(positions);
    const StageFolder folder(here / std::to_string(positions), data.fingerprint(), false);
    const auto made = make_similarity_order(corpus, *make_dense_encoder({.model = model_}), folder,
                                            {}, {.num_neighbours = 8}, here / "my.order");
    cosines.push_back(made->vectors->similarity(0, 1));
  }
  EXPECT_EQ(cosines[0], cosines[1]);
}

TEST_F(DenseOrders, LeaveLibTorchItsThreads) {
  const int before = at::get_num_threads();
  at::set_num_threads(3);
  make({.model = model_}, "work", 2);
  EXPECT_EQ(at::get_num_threads(), 3);
  at::set_num_threads(before);
}

// Cut at what memory holds the last index would have 100 rows, too few for product codes.
TEST_F(DenseOrders, AreTheSameForOneIndexAndForSeveralOfOneSize) {
  std::mt19937 random(2);
  std::string lines;
  for (int i = 0; i < 2100; ++i) {
    std::string text = "a";
    for (int word = 0; word < 8; ++word)
      text += std::string(" ") + static_cast<char>('a' + random() % 6);
    lines += line(text);
  }
  TemporaryFolder here;
  const Dataset data(data_testing::make_dataset(here, lines));
  const Corpus corpus(data, 1024);
  const auto make_here = [&](int64_t memory_bytes, SearchKind kind, const std::string& work) {
    const StageFolder folder(here / work, data.fingerprint(), false);
    const auto made = make_similarity_order(
        corpus,
        *make_dense_encoder(
            {.model = model_, .search = {.kind = kind}, .memory_bytes = memory_bytes}),
        folder, {}, {.num_neighbours = 8}, here / "my.order");
    EXPECT_EQ(made->vectors->num_indices(), memory_bytes == 1 ? 3u : 1u);
    return data_testing::read_text(here / "my.order");
  };
  const int64_t enough = DenseOptions().memory_bytes;
  EXPECT_EQ(make_here(1, SearchKind::kExact, "several"),
            make_here(enough, SearchKind::kExact, "one"));
  EXPECT_FALSE(make_here(1, SearchKind::kIvfPq, "several").empty());
}

TEST_F(DenseOrders, HaveExactNeighboursWhereProductCodesCannotBeLearnt) {
  const auto made = make({.model = model_, .search = {.kind = SearchKind::kIvfPq}}, "work");
  for (size_t row = 0; row < corpus_->num_rows(); ++row) {
    const auto found = made->neighbours.of(row);
    EXPECT_EQ(std::vector<Neighbour>(found.begin(), found.end()),
              made->vectors->exact_neighbours(row, 8));
  }
}

TEST_F(DenseOrders, RefuseVectorsThatAreNotFinite) {
  NamedTensors weights = random_weights();
  weights[0].second[5] = std::nan("");  // of the piece "run"
  weights[0].second[13] = std::nan("");
  save_safetensors(model_ + "/model.safetensors", weights);
  EXPECT_THAT(error_of([&] { make({.model = model_}, "work"); }),
              HasSubstr("gives it a vector that is not finite"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "my.order"));
}

TEST_F(DenseOrders, AreMadeAnewForOtherWeights) {
  const auto first = make({.model = model_}, "work");
  NamedTensors weights = random_weights();
  weights[0].second = weights[0].second.flip(0);
  save_safetensors(model_ + "/model.safetensors", weights);
  const auto second = make({.model = model_}, "work");
  EXPECT_NE(first->vectors->similarity(0, 1), second->vectors->similarity(0, 1));
}

}  // namespace
}  // namespace lorikeet
