#include "lorikeet/core/nearest.h"

#include <gtest/gtest.h>

namespace lorikeet {
namespace {

const std::vector<std::string> kKeys = {"hidden_size", "num_layers", "num_heads", "segment_length",
                                        "steps"};

TEST(EditDistance, CountsInsertDeleteReplaceAndSwapAsOne) {
  EXPECT_EQ(edit_distance("", ""), 0);
  EXPECT_EQ(edit_distance("abc", ""), 3);
  EXPECT_EQ(edit_distance("", "abc"), 3);
  EXPECT_EQ(edit_distance("hiden", "hidden"), 1);
  EXPECT_EQ(edit_distance("hiddden", "hidden"), 1);
  EXPECT_EQ(edit_distance("hodden", "hidden"), 1);
  EXPECT_EQ(edit_distance("hdiden", "hidden"), 1);
  EXPECT_EQ(edit_distance("setps", "steps"), 1);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3);
}

TEST(EditDistance, IsSymmetric) {
  for (const auto& a : kKeys) {
    for (const auto& b : kKeys) EXPECT_EQ(edit_distance(a, b), edit_distance(b, a));
  }
}

TEST(Nearest, FindsTheFewestEdits) {
  EXPECT_EQ(nearest("hiden_size", kKeys), "hidden_size");
  EXPECT_EQ(nearest("num_head", kKeys), "num_heads");
  EXPECT_EQ(nearest("setps", kKeys), "steps");
}

TEST(Nearest, IgnoresLetterCaseAndDashes) {
  EXPECT_EQ(nearest("Hidden-Size", kKeys), "hidden_size");
}

TEST(Nearest, CompletesAWordThatOnlyOneCandidateStartsWith) {
  EXPECT_EQ(nearest("segment", kKeys), "segment_length");
  EXPECT_EQ(nearest("num", kKeys), "");  // two do
  EXPECT_EQ(nearest("hi", kKeys), "");   // too short to tell
}

TEST(Nearest, FindsNothingWhereNothingIsNear) {
  EXPECT_EQ(nearest("dropout", kKeys), "");
  EXPECT_EQ(nearest("", kKeys), "");
  EXPECT_EQ(nearest("steps", {}), "");
  EXPECT_EQ(nearest(std::string(1 << 20, 'x'), kKeys), "");
}

TEST(Nearest, PrefersTheEarlierOfTwoEquallyNear) {
  EXPECT_EQ(nearest("warmap", {"warmup", "warmip"}), "warmup");
}

}  // namespace
}  // namespace lorikeet
