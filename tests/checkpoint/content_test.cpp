#include "lorikeet/checkpoint/content.h"

#include <gmock/gmock.h>

#include "tests/checkpoint/content.h"

namespace lorikeet {
namespace {

using namespace lorikeet::testing;
using ::testing::AllOf;
using ::testing::HasSubstr;

/// 24 elements, cut at 5, 6 and 17, in no order.
CheckpointContent cut_content(const torch::Tensor& whole) {
  const torch::Tensor flat = whole.reshape({-1});
  CheckpointContent content;
  content.step = 3;
  for (const auto& [begin, end] :
       std::vector<std::pair<int64_t, int64_t>>{{6, 17}, {0, 5}, {17, 24}, {5, 6}}) {
    content.tensors.push_back({"w", whole.sizes().vec(), begin, flat.slice(0, begin, end)});
  }
  content.tensors.push_back(whole_piece("v", torch::ones({2})));
  return content;
}

TEST(CheckpointContent, CopiesEveryRangeAcrossPieces) {
  const torch::Tensor whole = torch::randn({2, 3, 4});
  const CheckpointContent content = cut_content(whole);
  for (int64_t begin = 0; begin <= 24; ++begin) {
    for (int64_t end = begin; end <= 24; ++end) {
      const torch::Tensor out = torch::full({end - begin}, -1.0);
      copy_range(content, "w", {2, 3, 4}, begin, out);
      EXPECT_TRUE(torch::equal(out, whole.reshape({-1}).slice(0, begin, end)))
          << begin << " to " << end;
    }
  }
  EXPECT_TRUE(torch::equal(whole_tensor(content, "w"), whole));
}

TEST(CheckpointContent, GivesAWholeTensorWithoutACopy) {
  const CheckpointContent content = cut_content(torch::randn({24}));
  EXPECT_EQ(whole_tensor(content, "v").const_data_ptr(),
            content.tensors.back().values.const_data_ptr());
  EXPECT_EQ(tensor_names(content), (std::vector<std::string>{"v", "w"}));
  EXPECT_TRUE(has_tensor(content, "w"));
  EXPECT_FALSE(has_tensor(content, "x"));
}

TEST(CheckpointContent, RefusesAnotherNameShapeOrDtype) {
  const CheckpointContent content = cut_content(torch::randn({2, 3, 4}));
  const auto refusal = [&](const std::string& name, std::vector<int64_t> shape,
                           torch::ScalarType dtype) {
    return error_of(ExitCode::kCheckpoint,
                    [&] { copy_range(content, name, shape, 0, torch::empty({4}, dtype)); });
  };
  EXPECT_THAT(refusal("x", {2, 3, 4}, torch::kFloat),
              AllOf(HasSubstr("checkpoint of step 3"), HasSubstr("no tensor 'x'")));
  EXPECT_THAT(refusal("w", {6, 4}, torch::kFloat),
              HasSubstr("'w' as Float [2, 3, 4], but Float [6, 4] is needed"));
  EXPECT_THAT(refusal("w", {2, 3, 4}, torch::kHalf), HasSubstr("Half [2, 3, 4] is needed"));
  EXPECT_THAT(error_of(ExitCode::kCheckpoint, [&] { whole_tensor(content, "x"); }),
              HasSubstr("'x'"));
}

TEST(CheckpointContent, NoticesElementsThatWereNotLoaded) {
  CheckpointContent content = cut_content(torch::randn({24}));
  content.tensors.erase(content.tensors.begin());  // 6 to 17
  const torch::Tensor out = torch::empty({4});
  copy_range(content, "w", {24}, 2, out);
  EXPECT_THAT(error_of(ExitCode::kInternal, [&] { copy_range(content, "w", {24}, 3, out); }),
              HasSubstr("elements 3 to 7 of 'w' only 3 were loaded"));
  error_of(ExitCode::kInternal, [&] { whole_tensor(content, "w"); });
  error_of(ExitCode::kInternal, [&] { copy_range(content, "w", {24}, 21, out); });
  error_of(ExitCode::kInternal, [&] { copy_range(content, "w", {24}, -1, out); });
}

}  // namespace
}  // namespace lorikeet
