// Document order, packing and the batch loader.
#include <map>
#include <numeric>
#include <set>

#include "lorikeet/core/hash.h"
#include "lorikeet/data/batch_loader.h"
#include "lorikeet/data/order_file.h"
#include "lorikeet/data/prefetcher.h"
#include "lorikeet/data/validation_set.h"
#include "tests/data/data_testing.h"

namespace lorikeet {
namespace {

using data_testing::error_of;
using data_testing::make_dataset;
using data_testing::make_lines;
using data_testing::TemporaryFolder;
using ::testing::HasSubstr;

TEST(Permutation, HoldsEveryNumberOnceAndDependsOnItsKey) {
  for (const uint64_t size : {1u, 2u, 3u, 10u, 64u, 65u, 1000u, 4097u}) {
    std::set<uint64_t> seen;
    const Permutation permutation(size, 5);
    for (uint64_t i = 0; i < size; ++i) {
      seen.insert(permutation(i));
    }
    EXPECT_EQ(seen.size(), size);
    EXPECT_EQ(*seen.rbegin(), size - 1);
  }
  int same = 0;
  for (uint64_t i = 0; i < 1000; ++i) {
    same += Permutation(1000, 1)(i) == Permutation(1000, 2)(i);
  }
  EXPECT_LT(same, 10);
}

TEST(Permutation, PutsEveryElementEverywhereEquallyOften) {
  // 8 elements, 20,000 keys: every (place, element) is expected 2,500 times, deviation 47.
  std::map<std::pair<uint64_t, uint64_t>, int> counts;
  for (uint64_t key = 0; key < 20'000; ++key) {
    const Permutation permutation(8, key);
    for (uint64_t i = 0; i < 8; ++i) {
      ++counts[{i, permutation(i)}];
    }
  }
  for (const auto& [place, count] : counts) {
    EXPECT_NEAR(count, 2500, 5 * 47) << place.first << " " << place.second;
  }
}

class Order : public ::testing::Test {
 protected:
  static constexpr int64_t kContext = 64;

  std::vector<Sequence> sequences(const LoaderOptions& options, int64_t count) {
    return BatchLoader(data_, options).next(count);
  }
  static bool equal(const Sequence& a, const Sequence& b) {
    return a.tokens == b.tokens && a.document_lengths == b.document_lengths;
  }
  // The inputs of an epoch's sequences, as a row of how often each (document, place) token was used
  // cannot be seen from tokens; documents here differ, so count BOS-to-EOS stretches instead.
  static std::multiset<std::vector<int32_t>> whole_documents(const std::vector<Sequence>& row) {
    std::multiset<std::vector<int32_t>> found;
    for (const Sequence& sequence : row) {
      auto at = sequence.tokens.begin();
      for (const int32_t length : sequence.document_lengths) {
        if (*at == 1 && *(at + length - 1) == 2) {
          found.emplace(at, at + length);
        }
        at += length;
      }
    }
    return found;
  }

  TemporaryFolder folder_;
  Dataset data_{make_dataset(folder_, make_lines(200, "news") + make_lines(100, "code", 2), 0.05)};
  LoaderOptions options_{.context_length = kContext, .seed = 3};
};

TEST_F(Order, SequencesHaveOneTokenMoreThanTheContextAndLengthsThatAddUp) {
  for (const Sequence& sequence : sequences(options_, 400)) {
    ASSERT_EQ(sequence.tokens.size(), kContext + 1u);
    EXPECT_EQ(
        std::accumulate(sequence.document_lengths.begin(), sequence.document_lengths.end(), 0),
        kContext);
    // Documents begin with BOS exactly where the lengths say.
    size_t at = 0;
    for (size_t i = 0; i < sequence.document_lengths.size(); ++i) {
      if (i > 0) {
        EXPECT_EQ(sequence.tokens[at], 1);
        EXPECT_EQ(sequence.tokens[at - 1], 2);
      }
      for (int32_t j = i > 0 ? 1 : 0; j < sequence.document_lengths[i]; ++j) {
        if (at + j > 0) {
          EXPECT_NE(sequence.tokens[at + j], 1);
        }
      }
      at += static_cast<size_t>(sequence.document_lengths[i]);
    }
  }
}

TEST_F(Order, AnySequenceIsTheSameHoweverItIsReached) {
  BatchLoader in_order(data_, options_);
  std::vector<Sequence> row = in_order.next(700);
  ASSERT_GT(in_order.epoch_of(699), 2);
  for (const int64_t index : {699, 0, 350, 120, 698, 5}) {
    BatchLoader fresh(data_, options_);
    EXPECT_TRUE(equal(fresh.get(index), row[static_cast<size_t>(index)])) << index;
    EXPECT_TRUE(equal(in_order.get(index), row[static_cast<size_t>(index)])) << index;
  }
  BatchLoader resumed(data_, options_);
  resumed.seek(333);
  EXPECT_TRUE(equal(resumed.next(2)[1], row[334]));
  EXPECT_EQ(resumed.position(), 335);
}

TEST_F(Order, DependsOnTheSeedAndOnTheEpoch) {
  const std::vector<Sequence> row = sequences(options_, 500);
  options_.seed = 4;
  const std::vector<Sequence> other = sequences(options_, 500);
  int same = 0;
  for (size_t i = 0; i < row.size(); ++i) {
    same += equal(row[i], other[i]);
  }
  EXPECT_LT(same, 5);
  const int64_t epoch = BatchLoader(data_, options_).sequences_per_epoch();
  EXPECT_FALSE(equal(other[0], other[static_cast<size_t>(epoch)]));
}

TEST_F(Order, EveryTokenOfEveryEpochIsAnInputOnce) {
  // Two epochs: all inputs but the few that are carried into the third.
  BatchLoader loader(data_, options_);
  const int64_t per_epoch = DocumentOrder(data_, "random", {}, 1).cumulative_tokens(1);
  const int64_t count = (2 * per_epoch - 1) / kContext;
  std::map<int32_t, int64_t> used;
  for (const Sequence& sequence : loader.next(count)) {
    for (int64_t i = 0; i < kContext; ++i) {
      ++used[sequence.tokens[static_cast<size_t>(i)]];
    }
  }
  EXPECT_EQ(loader.epoch_of(count - 1), 1);
  EXPECT_EQ(loader.epoch_of(count), 2);
  std::map<int32_t, int64_t> expected;
  for (const DocumentNumber number : data_.documents(Split::kTrain)) {
    for (const int32_t token : data_.tokens(number)) {
      expected[token] += 2;
    }
  }
  int64_t missing = 0;
  for (const auto& [token, times] : expected) {
    EXPECT_LE(used[token], times) << token;
    missing += times - used[token];
  }
  EXPECT_EQ(missing, 2 * per_epoch - count * kContext);
  EXPECT_LE(missing, kContext);
}

TEST_F(Order, HeldOutDocumentsAreNeverTrainedOn) {
  std::set<std::vector<int32_t>> held_out;
  for (const DocumentNumber number : data_.documents(Split::kHeldOut)) {
    held_out.insert(data_.tokens(number));
  }
  ASSERT_GT(held_out.size(), 5u);
  const auto used = whole_documents(sequences(options_, 2000));
  ASSERT_GT(used.size(), 1000u);
  for (const auto& document : used) {
    EXPECT_FALSE(held_out.contains(document));
  }
}

TEST_F(Order, ReshuffleStartsOverInAnotherOrderAtItsSequence) {
  const std::vector<Sequence> plain = sequences(options_, 60);
  options_.reshuffle_at = 25;
  const std::vector<Sequence> reshuffled = sequences(options_, 60);
  for (size_t i = 0; i < 25; ++i) {
    EXPECT_TRUE(equal(plain[i], reshuffled[i])) << i;
  }
  EXPECT_FALSE(equal(plain[25], reshuffled[25]));
  EXPECT_FALSE(equal(plain[0], reshuffled[25]));
  EXPECT_EQ(BatchLoader(data_, options_).epoch_of(25), 0);
}

TEST_F(Order, WeightsRepeatAndThinOutDomains) {
  const auto count = [&](const DocumentOrder& order, int64_t epoch) {
    std::map<DocumentNumber, int> times;
    for (const DocumentNumber number : order.epoch(epoch)) {
      ++times[number];
    }
    return times;
  };
  const DocumentOrder order(data_, "random", {{"news", 2.0}, {"code", 0.25}}, 9);
  std::map<DocumentNumber, int> total;
  int64_t tokens = 0;
  for (int64_t epoch = 0; epoch < 4; ++epoch) {
    for (const auto& [number, times] : count(order, epoch)) {
      total[number] += times;
      tokens += times * data_.document(number).num_tokens;
      if (data_.document(number).domain == 0) {
        EXPECT_EQ(times, 2);
      }
    }
    EXPECT_EQ(order.cumulative_tokens(epoch + 1), tokens);
  }
  for (const DocumentNumber number : data_.documents(Split::kTrain)) {
    EXPECT_EQ(total[number], data_.document(number).domain == 0 ? 8 : 1);
  }
  const DocumentOrder without(data_, "random", {{"news", 0}}, 9);
  for (const auto& [number, times] : count(without, 0)) {
    EXPECT_EQ(data_.document(number).domain, 1u);
  }
}

TEST_F(Order, WithFractionalWeightsCanBeEnteredAnywhere) {
  options_.mixture = {{"news", 0.3}, {"code", 1.7}};
  const std::vector<Sequence> row = sequences(options_, 600);
  for (const int64_t index : {0, 77, 301, 599}) {
    EXPECT_TRUE(equal(BatchLoader(data_, options_).get(index), row[static_cast<size_t>(index)]));
  }
}

TEST_F(Order, RefusesMixturesThatMeanNothing) {
  const auto message = [&](std::vector<MixtureWeight> mixture) {
    options_.mixture = std::move(mixture);
    return error_of([&] { BatchLoader(data_, options_); }, ExitCode::kUsage);
  };
  EXPECT_THAT(message({{"poems", 1.0}}), HasSubstr("there is no domain \"poems\""));
  EXPECT_THAT(message({{"news", -1.0}}), HasSubstr("data.mixture.news: -1 is not in"));
  EXPECT_THAT(message({{"news", std::nan("")}}), HasSubstr("nan is not in"));
}

TEST_F(Order, RefusesDataThatFillsNoContextOrNoBatch) {
  options_.context_length = 1'000'000;
  EXPECT_THAT(error_of([&] { BatchLoader(data_, options_); }),
              HasSubstr("does not fill one context of 1000000 tokens"));
  options_.context_length = kContext;
  const BatchLoader loader(data_, options_);
  loader.require_batch(loader.sequences_per_epoch());
  EXPECT_THAT(error_of([&] { loader.require_batch(loader.sequences_per_epoch() + 1); }),
              HasSubstr("fewer than train.batch_sequences"));
}

TEST_F(Order, OfAFileIsFollowedEveryEpochBeforeContextsAreShuffled) {
  std::vector<DocumentNumber> documents = data_.documents(Split::kTrain);
  std::reverse(documents.begin(), documents.end());
  const std::string path = folder_ / "my.order";
  write_order_file(path, documents, data_.fingerprint());
  const DocumentOrder order(data_, path, {}, 1);
  EXPECT_EQ(order.epoch(0), documents);
  EXPECT_EQ(order.epoch(5), documents);
  options_.order = path;
  const PackedDocuments packed(data_, documents);
  std::multiset<std::vector<int32_t>> expected;
  std::multiset<std::vector<int32_t>> found;
  BatchLoader loader(data_, options_);
  for (int64_t i = 0; i < loader.sequences_per_epoch(); ++i) {
    expected.insert(packed.cut(i, kContext).tokens);
    found.insert(loader.get(i).tokens);
  }
  EXPECT_EQ(found, expected);
}

TEST_F(Order, FilesThatDoNotFitAreRefused) {
  const std::string path = folder_ / "my.order";
  const std::vector<DocumentNumber> good = data_.documents(Split::kTrain);
  const auto message = [&](std::vector<DocumentNumber> documents, uint64_t fingerprint) {
    write_order_file(path, documents, fingerprint);
    return error_of([&] { read_order_file(path, data_); });
  };
  EXPECT_THAT(message(good, 1), HasSubstr("fingerprint 0000000000000001, but"));
  const uint64_t ours = data_.fingerprint();
  EXPECT_THAT(message({good.begin() + 1, good.end()}, ours), HasSubstr("expected all"));
  std::vector<DocumentNumber> twice = good;
  twice[1] = twice[0];
  EXPECT_THAT(message(twice, ours), HasSubstr("stands there twice"));
  std::vector<DocumentNumber> beyond = good;
  beyond[0] = 1'000'000;
  EXPECT_THAT(message(beyond, ours), HasSubstr("document 1000000: the data has only 300"));
  std::vector<DocumentNumber> held_out = good;
  held_out[0] = data_.documents(Split::kHeldOut)[0];
  EXPECT_THAT(message(held_out, ours), HasSubstr("is held out"));

  write_order_file(path, good, ours);
  const std::string bytes = data_testing::read_text(path);
  for (const size_t at :
       {size_t{0}, size_t{9}, size_t{17}, size_t{25}, size_t{60}, bytes.size() - 1}) {
    std::string bad = bytes;
    bad[at] = static_cast<char>(bad[at] ^ 4);
    data_testing::write_text(path, bad);
    EXPECT_THAT(error_of([&] { read_order_file(path, data_); }), HasSubstr("my.order")) << at;
  }
  data_testing::write_text(path, bytes.substr(0, bytes.size() - 4));
  EXPECT_THAT(error_of([&] { read_order_file(path, data_); }), HasSubstr("documents: expected"));
  options_.order = "similarity";
  EXPECT_THAT(error_of([&] { BatchLoader(data_, options_); }), HasSubstr("similarity.order"));
}

TEST_F(Order, PrefetcherGivesTheSameSequencesAndTheEnd) {
  BatchLoader loader(data_, options_);
  const std::vector<Sequence> row = sequences(options_, 40);
  Prefetcher prefetcher(
      loader,
      [](int64_t k) {
        return k < 10 ? std::vector<int64_t>{4 * k + 1, 4 * k + 3} : std::vector<int64_t>{};
      },
      3);
  for (size_t k = 0; k < 10; ++k) {
    const std::vector<Sequence> batch = prefetcher.next();
    ASSERT_EQ(batch.size(), 2u);
    EXPECT_TRUE(equal(batch[0], row[4 * k + 1]));
    EXPECT_TRUE(equal(batch[1], row[4 * k + 3]));
  }
  EXPECT_TRUE(prefetcher.next().empty());
  EXPECT_TRUE(prefetcher.next().empty());
}

TEST_F(Order, PrefetcherHandsErrorsToTheCallerAndStopsWhenDropped) {
  BatchLoader loader(data_, options_);
  const auto plan = [](int64_t k) {
    if (k == 2) {
      throw Error(ExitCode::kData, "the disk is gone");
    }
    return std::vector<int64_t>{k};
  };
  {
    Prefetcher prefetcher(loader, plan, 8);
    EXPECT_EQ(prefetcher.next().size(), 1u);
    EXPECT_EQ(prefetcher.next().size(), 1u);
    EXPECT_EQ(error_of([&] { prefetcher.next(); }), "the disk is gone");
    EXPECT_EQ(error_of([&] { prefetcher.next(); }), "the disk is gone");
  }
  const Prefetcher endless(
      loader, [](int64_t k) { return std::vector<int64_t>{k}; }, 2);
}

TEST_F(Order, ValidationSetHoldsTheHeldOutTextOfEachDomainInOrder) {
  const ValidationSet all(data_, 32, 1000);
  ASSERT_EQ(all.num_domains(), 2u);
  EXPECT_EQ(all.domain_name(1), "code");
  std::vector<int32_t> expected;
  for (const DocumentNumber number : data_.documents(Split::kHeldOut, 1)) {
    const std::vector<int32_t> tokens = data_.tokens(number);
    expected.insert(expected.end(), tokens.begin(), tokens.end());
  }
  EXPECT_EQ(all.num_contexts(1), (static_cast<int64_t>(expected.size()) - 1) / 32);
  for (int64_t i = 0; i < all.num_contexts(1); ++i) {
    EXPECT_EQ(all.get(1, i).tokens,
              std::vector<int32_t>(expected.begin() + i * 32, expected.begin() + i * 32 + 33));
  }
  EXPECT_EQ(ValidationSet(data_, 32, 1).num_contexts(0), 1);
  EXPECT_EQ(ValidationSet(data_, 100'000, 1).num_domains(), 0u);
}

TEST(ContextCarry, DropsNothingWhenAnEpochIsHardlyAContext) {
  TemporaryFolder folder;
  const Dataset data(make_dataset(folder, make_lines(3, "news")));
  const int64_t per_epoch = data.num_tokens();
  const LoaderOptions options{.context_length = per_epoch / 2 + 1, .seed = 1};
  BatchLoader loader(data, options);
  const int64_t count = (20 * per_epoch - 1) / options.context_length;
  const std::vector<Sequence> row = loader.next(count);
  EXPECT_EQ(loader.epoch_of(count), 20);
  for (const int64_t index : {count - 1, count / 2, int64_t{0}}) {
    EXPECT_EQ(BatchLoader(data, options).get(index).tokens, row[static_cast<size_t>(index)].tokens);
  }
  std::map<int32_t, int64_t> used;
  for (const Sequence& sequence : row) {
    for (size_t i = 0; i + 1 < sequence.tokens.size(); ++i) {
      ++used[sequence.tokens[i]];
    }
  }
  EXPECT_GE(used[1], 20 * 3 - 3);  // BOS of every document of every epoch, but the last few
}

}  // namespace
}  // namespace lorikeet
