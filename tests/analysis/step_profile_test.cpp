#include "lorikeet/analysis/step_profile.h"

#include <ATen/record_function.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

namespace lorikeet {
namespace {

TEST(StepProfile, ABackwardNodeBelongsToTheInnermostPartThatMadeIt) {
  const StepProfile profile;
  torch::Tensor y = torch::ones({4}, torch::requires_grad());
  {
    RECORD_USER_SCOPE("outer");
    {
      RECORD_USER_SCOPE("inner");
      y = y * 2;
    }
  }
  y.sum().backward();
  const auto seconds = profile.seconds();
  EXPECT_EQ(seconds.count("backward inner"), 1);
  EXPECT_EQ(seconds.count("backward outer"), 0);
  EXPECT_EQ(seconds.count("forward outer"), 1);
  EXPECT_EQ(seconds.count("backward rest"), 1) << "the sum's";
}

}  // namespace
}  // namespace lorikeet
