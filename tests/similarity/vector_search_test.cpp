// The search by FAISS, and how FAISS and LibTorch live together.
#include "lorikeet/similarity/vector_search.h"

#include <ATen/ATen.h>
#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace lorikeet {
namespace {

using ::testing::HasSubstr;

double recall(const SearchOptions& options) {
  // Clusters, as documents form them.
  constexpr int64_t kRows = 6000;
  constexpr int64_t kWidth = 32;
  at::manual_seed(2);
  const at::Tensor centres = at::randn({150, kWidth});
  at::Tensor rows = centres.repeat({kRows / 150, 1}) + at::randn({kRows, kWidth});
  rows = rows / rows.norm(2, 1, true);
  const std::span<const float> vectors(rows.const_data_ptr<float>(),
                                       static_cast<size_t>(rows.numel()));
  VectorSearch search(kWidth, kRows, options);
  if (search.needs_training()) search.train(vectors);
  search.add(vectors);
  // Whoever finds them among the candidates finds them: candidates are scored again.
  const int64_t candidates = search.num_candidates(10);
  const std::vector<int64_t> found = search.search(vectors.first(200 * kWidth), candidates);
  const at::Tensor exact = std::get<1>(rows.slice(0, 0, 200).matmul(rows.t()).topk(10));
  int64_t hits = 0;
  for (int64_t query = 0; query < 200; ++query) {
    for (int64_t i = 0; i < 10; ++i) {
      const int64_t wanted = exact[query][i].item<int64_t>();
      const auto begin = found.begin() + query * candidates;
      hits += std::count(begin, begin + candidates, wanted);
    }
  }
  return static_cast<double>(hits) / 2000;
}

TEST(VectorSearch, FindsAllWhenExactAndMostWhenNot) {
  EXPECT_GE(recall({.kind = SearchKind::kExact}), 0.999);  // ties within rounding
  EXPECT_GE(recall({.kind = SearchKind::kIvf}), 0.95);
  EXPECT_GE(recall({.kind = SearchKind::kIvfSq}), 0.9);
  EXPECT_GE(recall({.kind = SearchKind::kIvfPq}), 0.9);
  EXPECT_LT(recall({.kind = SearchKind::kIvf, .num_probes = 1}), 0.95);
}

TEST(VectorSearch, CountsTheBytesThatAKindTakes) {
  const auto bytes = [](SearchKind kind, int64_t num_vectors) {
    return static_cast<double>(VectorSearch::memory_bytes(384, num_vectors, {.kind = kind}));
  };
  EXPECT_EQ(bytes(SearchKind::kExact, 1000), 1000 * 384 * 4);
  EXPECT_EQ(bytes(SearchKind::kIvfPq, 255), 255 * 384 * 4);  // exact
  // Of many vectors the sample is little.
  EXPECT_NEAR(bytes(SearchKind::kIvfSq, 1 << 30) / bytes(SearchKind::kIvf, 1 << 30), 0.27, 0.02);
  EXPECT_NEAR(bytes(SearchKind::kIvfPq, 1 << 30) / bytes(SearchKind::kIvf, 1 << 30), 0.05, 0.02);
}

// FAISS brings OpenBLAS with it, which must not take the place of LibTorch's own matrix products.
TEST(VectorSearch, LeavesLibTorchItsBlas) {
  Dl_info library{};
  ASSERT_NE(dladdr(dlsym(RTLD_DEFAULT, "sgemm_"), &library), 0);
  EXPECT_THAT(library.dli_fname, HasSubstr("libtorch_cpu"));
}

}  // namespace
}  // namespace lorikeet
