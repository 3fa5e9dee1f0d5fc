// The stages together, and what training makes of their order.
#include "lorikeet/similarity/similarity_order.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <random>
#include <thread>

#include "lorikeet/data/batch_loader.h"
#include "lorikeet/data/order_file.h"
#include "lorikeet/similarity/order_report.h"
#include "tests/data/data_testing.h"

namespace lorikeet {
namespace {

using data_testing::error_of;
using data_testing::line;
using data_testing::make_dataset;
using data_testing::make_lines;
using data_testing::read_text;
using data_testing::TemporaryFolder;
using data_testing::write_text;
using ::testing::HasSubstr;

// Documents of six topics that share no words, by turns.
std::string topic_lines(int count) {
  std::mt19937 random(1);
  std::string lines;
  for (int i = 0; i < count; ++i) {
    const std::string topic(1, static_cast<char>('a' + i % 6));
    std::string text = "doc" + std::to_string(i);
    for (int word = 0; word < 25; ++word) text += " " + topic + std::to_string(random() % 40);
    lines += line(text, topic);
  }
  return lines;
}

class SimilarityOrders : public ::testing::Test {
 protected:
  void open(const std::string& lines, double held_out = 0.0) {
    data_.emplace(make_dataset(folder_, lines, held_out));
    corpus_.emplace(*data_, 64);
  }
  std::optional<SimilarityOrder> make(const std::string& work = "work", const Crew& crew = {}) {
    const StageFolder folder(folder_ / work, data_->fingerprint(), false);
    return make_similarity_order(*corpus_, *make_lexical_encoder(lexical_), folder, crew, options_,
                                 output_);
  }
  std::vector<DocumentNumber> order() { return read_order_file(output_, *data_); }

  TemporaryFolder folder_;
  std::optional<Dataset> data_;
  std::optional<Corpus> corpus_;
  LexicalOptions lexical_;
  SimilarityOrderOptions options_{.num_neighbours = 10};
  std::string output_ = folder_ / "my.order";
};

TEST_F(SimilarityOrders, PutTopicsTogetherAndHoldEveryTrainingDocumentOnce) {
  open(topic_lines(600), 0.05);
  const auto made = make();
  std::vector<DocumentNumber> documents = order();
  int changes = 0;
  for (size_t i = 1; i < documents.size(); ++i) {
    changes += data_->document(documents[i]).domain != data_->document(documents[i - 1]).domain;
  }
  EXPECT_LT(changes, 60);  // of 570; in random order 475
  EXPECT_NEAR(made->path.weight, measure_path(made->graph, made->path.rows).weight, 1e-9);
  std::sort(documents.begin(), documents.end());
  EXPECT_EQ(documents, data_->documents(Split::kTrain));
}

TEST_F(SimilarityOrders, LoseNoTokenInTraining) {
  open(topic_lines(600), 0.05);
  make();
  BatchLoader loader(*data_, {.context_length = 64, .order = output_});
  const int64_t epoch = loader.sequences_per_epoch();
  std::map<int32_t, int64_t> used;
  for (const Sequence& sequence : loader.next(epoch)) {
    for (size_t i = 0; i + 1 < sequence.tokens.size(); ++i) ++used[sequence.tokens[i]];
  }
  int64_t missing = 0;
  std::map<int32_t, int64_t> expected;
  for (const DocumentNumber number : data_->documents(Split::kTrain)) {
    for (const int32_t token : data_->tokens(number)) ++expected[token];
  }
  for (const auto& [token, times] : expected) {
    EXPECT_LE(used[token], times);
    missing += times - used[token];
  }
  EXPECT_LE(missing, 64);  // the tail begins the next epoch
}

TEST_F(SimilarityOrders, FollowTheMixture) {
  open(topic_lines(600));
  make();
  const DocumentOrder mixed(*data_, output_, {{"a", 2.0}, {"b", 0.0}}, 1);
  std::map<DocumentNumber, int> times;
  for (const DocumentNumber number : mixed.epoch(0)) ++times[number];
  for (const DocumentNumber number : data_->documents(Split::kTrain)) {
    const std::string& domain = data_->domains()[data_->document(number).domain].name;
    EXPECT_EQ(times[number], domain == "a" ? 2 : (domain == "b" ? 0 : 1)) << number;
  }
}

TEST_F(SimilarityOrders, DropDuplicatesOnRequestAndNameThem) {
  std::string lines = topic_lines(300);
  const std::string copied = lines.substr(0, lines.find('\n') + 1);
  open(lines + copied + copied);
  options_.duplicates = FindingMode::kMark;
  EXPECT_EQ(make()->num_kept(), 302u);
  EXPECT_EQ(order().size(), 302u);
  options_.duplicates = FindingMode::kDrop;
  const auto made = make();
  EXPECT_EQ(made->num_kept(), 300u);
  std::vector<DocumentNumber> documents = order();
  std::sort(documents.begin(), documents.end());
  std::vector<DocumentNumber> expected = data_->documents(Split::kTrain);
  expected.resize(300);
  EXPECT_EQ(documents, expected);
  EXPECT_EQ(DocumentOrder(*data_, output_, {}, 1).epoch(1).size(), 300u);
  const OrderReport report = make_report(*made, {.context_length = 64});
  EXPECT_EQ(report.num_duplicates, 2);
  EXPECT_EQ(report.num_dropped, 2);
  EXPECT_EQ(report.duplicates[0].copy, report.duplicates[0].original);
}

TEST_F(SimilarityOrders, SayWhatBecameOfDuplicatesAndOfFilteredDocumentsEachForItself) {
  std::string spam = "spam";
  for (int i = 0; i < 60; ++i) spam += " spam";
  const std::string lines = topic_lines(300);
  const std::string copied = lines.substr(0, lines.find('\n') + 1);
  open(line(spam) + lines + copied + line(spam));
  options_.filters = FindingMode::kDrop;
  OrderReport report = make_report(*make(), {.context_length = 64});
  EXPECT_EQ(report.num_duplicates, 1);
  EXPECT_TRUE(report.drops_filtered);
  EXPECT_FALSE(report.drops_duplicates);
  options_.filters = FindingMode::kMark;
  options_.duplicates = FindingMode::kDrop;
  report = make_report(*make(), {.context_length = 64});
  EXPECT_FALSE(report.drops_filtered);
  EXPECT_TRUE(report.drops_duplicates);
}

TEST_F(SimilarityOrders, WithFewNeighboursHaveARecallOfThese) {
  open(topic_lines(300));
  options_.num_neighbours = 3;
  const OrderReport report = make_report(*make(), {.context_length = 64});
  EXPECT_EQ(report.recall_at, 3u);
  EXPECT_GE(report.recall, 0.95);
  EXPECT_THAT(to_text(report), HasSubstr("recall@3 of the search"));
  EXPECT_THAT(to_html(report), HasSubstr("Recall@3 of the search"));
}

TEST_F(SimilarityOrders, DropWhatTheFiltersFindOnRequestAndCountIt) {
  std::string spam = "spam";
  for (int i = 0; i < 60; ++i) spam += " spam";
  const std::string one = line("a1 a2 a3 a4 a5 " + spam, "a");
  open(one + topic_lines(300) + one);
  EXPECT_EQ(make()->num_kept(), 302u);
  options_.duplicates = FindingMode::kDrop;
  EXPECT_EQ(make()->num_kept(), 301u);
  options_.filters = FindingMode::kDrop;
  const auto made = make();
  EXPECT_EQ(made->num_kept(), 300u);
  EXPECT_FALSE(made->is_kept[0]);
  EXPECT_FALSE(made->is_kept[301]);
  EXPECT_EQ(order().size(), 300u);
  const OrderReport report = make_report(*made, {.context_length = 64});
  EXPECT_EQ(report.filtered_documents[1] + report.filtered_documents[2], 2);
  EXPECT_TRUE(report.drops_filtered);
  EXPECT_EQ(report.num_duplicates, 0);  // what is left out repeats nothing
  EXPECT_THAT(to_text(report), HasSubstr("what they find is dropped"));
}

TEST_F(SimilarityOrders, RefuseFiltersThatLeaveNothing) {
  open(topic_lines(20));
  options_.filters = FindingMode::kDrop;
  options_.filter_rule.most_frequent = 0;
  EXPECT_THAT(error_of([&] { make(); }), HasSubstr("the filters leave none of 20 documents"));
}

TEST_F(SimilarityOrders, AreTheSameWhereverTheyAreTakenUpAgain) {
  open(topic_lines(300));
  make();
  const std::string expected = read_text(output_);
  for (const auto& entry : std::filesystem::directory_iterator(folder_ / "work")) {
    const std::string path = entry.path().string();
    std::filesystem::remove(path);
    std::filesystem::remove(output_);
    make();
    EXPECT_EQ(read_text(output_), expected) << "without " << path;
  }
  for (const Stage stage : {Stage::kEmbed, Stage::kNeighbours, Stage::kFilter, Stage::kDeduplicate,
                            Stage::kPath, Stage::kOrder}) {
    std::filesystem::remove(output_);
    options_.last = stage;
    make("other");
    EXPECT_EQ(std::filesystem::exists(output_), stage == Stage::kOrder);
  }
  EXPECT_EQ(read_text(output_), expected);
}

TEST_F(SimilarityOrders, AreTheSameForAnyThreadsIndicesBlocksAndProcesses) {
  open(topic_lines(3000));
  lexical_.max_postings = 100'000;
  make();
  const std::string expected = read_text(output_);
  lexical_.memory_bytes = 1;  // the smallest indices: 1,000 rows
  make("small", {.num_threads = 1});
  EXPECT_TRUE(std::filesystem::exists(folder_ / "small/neighbours_002_00000.stage"));
  EXPECT_EQ(read_text(output_), expected);
  lexical_.memory_bytes = LexicalOptions().memory_bytes;
  corpus_.emplace(*data_, 1000);
  EXPECT_FALSE([&] {
    std::optional<SimilarityOrder> other;
    std::jthread helper([&] { other = make("shared", {.rank = 1, .world_size = 2}); });
    make("shared", {.rank = 0, .world_size = 2});
    helper.join();
    return other.has_value();
  }());
  EXPECT_EQ(read_text(output_), expected);
}

TEST_F(SimilarityOrders, FollowOtherOptionsWithoutBeingAsked) {
  open(topic_lines(300));
  make();
  const std::string first = read_text(output_);
  options_.seed = 2;
  options_.num_neighbours = 5;
  make();
  EXPECT_NE(read_text(output_), first);
  options_ = {.num_neighbours = 10};
  make();
  EXPECT_EQ(read_text(output_), first);
}

TEST_F(SimilarityOrders, ComeOutOfOneDocumentOfCopiesAndOfDocumentsWithoutWords) {
  open(line("hello world"));
  make();
  EXPECT_EQ(order().size(), 1u);
  std::string copies;
  for (int i = 0; i < 30; ++i) copies += line("the same words in every document", "copies");
  TemporaryFolder second;
  const Dataset data(make_dataset(second, copies + line("..") + line("!?")));
  const Corpus corpus(data);
  options_.duplicates = FindingMode::kDrop;
  const StageFolder folder(second / "work", data.fingerprint(), false);
  const auto made = make_similarity_order(corpus, *make_lexical_encoder({}), folder, {}, options_,
                                          second / "my.order");
  EXPECT_EQ(read_order_file(second / "my.order", data).size(), 3u);
  EXPECT_FALSE(to_html(make_report(*made, {})).empty());
}

TEST_F(SimilarityOrders, RefuseFilesOfOtherDataAndDamagedOnes) {
  open(topic_lines(100));
  make();
  const std::string vectors = folder_ / "work/vectors_00000.stage";
  const std::string good = read_text(vectors);
  std::filesystem::remove(folder_ / "work/path.stage");
  for (const size_t at : {size_t{3}, size_t{20}, size_t{40}, size_t{120}, good.size() - 1}) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 1);
    write_text(vectors, bad);
    EXPECT_THAT(error_of([&] { make(); }), HasSubstr("vectors_00000.stage")) << at;
  }
  write_text(vectors, good.substr(0, good.size() - 8));
  EXPECT_THAT(error_of([&] { make(); }), HasSubstr("expected"));
  write_text(vectors, good);
  const std::string before = read_text(output_);
  make();
  EXPECT_EQ(read_text(output_), before);

  std::filesystem::remove_all(folder_ / "tokens");
  open(topic_lines(101));
  EXPECT_THAT(error_of([&] { make(); }), HasSubstr("was made for data with fingerprint"));
  EXPECT_EQ(read_text(output_), before);
}

TEST_F(SimilarityOrders, OfPartsHoldEveryDocumentAndWeighLess) {
  open(topic_lines(600));
  const auto whole = make();
  options_.path_shards = 4;
  const auto parts = make();
  EXPECT_EQ(order().size(), 600u);
  EXPECT_LT(parts->path.weight, whole->path.weight);
  EXPECT_GT(parts->path.weight, whole->path.weight / 2);
  options_.path_shards = 1;
  options_.improve_passes = 10;
  EXPECT_GE(make()->path.weight, whole->path.weight);
}

TEST_F(SimilarityOrders, HaveAReportThatComparesThemWithRandomOrder) {
  open(topic_lines(600));
  const auto made = make();
  const OrderReport report = make_report(*made, {.context_length = 256});
  EXPECT_GT(report.similar.mean_cosine, 2 * report.random.mean_cosine);
  EXPECT_GT(report.similar.one_domain_share, 2 * report.random.one_domain_share);
  EXPECT_DOUBLE_EQ(report.similar.path_weight, made->path.weight);
  EXPECT_GT(report.similar.path_weight, 2 * report.random.path_weight);
  EXPECT_GE(report.recall, 0.95);
  EXPECT_EQ(report.recall_at, 10u);
  EXPECT_GT(report.optimum.num_graphs, 50);
  EXPECT_LE(report.optimum.greedy_ratio, 1 + 1e-6);
  EXPECT_GE(report.optimum.improved_ratio, report.optimum.greedy_ratio);
  EXPECT_THAT(to_text(report), HasSubstr("mean cosine of consecutive documents"));
  const std::string page = to_html(report);
  EXPECT_THAT(page, HasSubstr("</html>"));
  EXPECT_EQ(page.find("src="), std::string::npos);  // nothing from outside
  EXPECT_EQ(page.find("href="), std::string::npos);
}

TEST_F(SimilarityOrders, EscapeTitlesOnThePage) {
  open(topic_lines(100) + line("<script>alert(1)</script> a1 a2 a3 & more", "<b>"));
  const auto made = make();
  ReportOptions options;
  options.encoder = "<script>";
  OrderReport report = make_report(*made, options);
  report.stretches = {
      {{.cosine = 0, .domain = "<b>", .title = "<script>alert(1)</script> & \"x\""}}};
  const std::string page = to_html(report);
  EXPECT_EQ(page.find("<script>"), std::string::npos);
  EXPECT_THAT(page, HasSubstr("&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;x&quot;"));
}

}  // namespace
}  // namespace lorikeet
