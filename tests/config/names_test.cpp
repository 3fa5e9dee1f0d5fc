#include "lorikeet/config/names.h"

#include <gtest/gtest.h>

namespace lorikeet {
namespace {

template <class E>
class EnumNames : public testing::Test {};
using AllEnums = testing::Types<FeedForwardKind, Routing, FirstSegment, Scope, ExpertInit, Kernel,
                                QkNorm, DeviceChoice, Precision, ActivationCheckpointing,
                                ScheduleKind, WarmupState, SpikeAction>;
TYPED_TEST_SUITE(EnumNames, AllEnums);

TYPED_TEST(EnumNames, ReadBackToTheSameValue) {
  ASSERT_FALSE(enum_names<TypeParam>().empty());
  for (size_t i = 0; i < enum_names<TypeParam>().size(); ++i) {
    const auto value = static_cast<TypeParam>(i);
    EXPECT_EQ(parse_enum<TypeParam>(to_string(value)), value);
  }
}

TYPED_TEST(EnumNames, RefuseAnythingElse) {
  EXPECT_THROW(parse_enum<TypeParam>(""), std::invalid_argument);
  EXPECT_THROW(parse_enum<TypeParam>("Auto"), std::invalid_argument);
  EXPECT_THROW(to_string(static_cast<TypeParam>(enum_names<TypeParam>().size())),
               std::out_of_range);
}

TEST(EnumNamesOrder, IsTheEnums) {
  EXPECT_EQ(to_string(FeedForwardKind::kMerged), "merged");
  EXPECT_EQ(to_string(Routing::kCausalSegment), "causal_segment");
  EXPECT_EQ(to_string(Routing::kPrefix), "prefix");
  EXPECT_EQ(to_string(Routing::kSequence), "sequence");
  EXPECT_EQ(to_string(FirstSegment::kSelfStopGradient), "self_stop_gradient");
  EXPECT_EQ(to_string(FirstSegment::kLearned), "learned");
  EXPECT_EQ(to_string(Scope::kDocument), "document");
  EXPECT_EQ(to_string(ExpertInit::kCopied), "copied");
  EXPECT_EQ(to_string(Kernel::kReference), "reference");
  EXPECT_EQ(to_string(QkNorm::kHead), "head");
  EXPECT_EQ(to_string(DeviceChoice::kCuda), "cuda");
  EXPECT_EQ(to_string(Precision::kBf16), "bf16");
  EXPECT_EQ(to_string(ActivationCheckpointing::kBlock), "block");
  EXPECT_EQ(to_string(ScheduleKind::kMultiStep), "multi_step");
  EXPECT_EQ(to_string(ScheduleKind::kWarmupStableDecay), "warmup_stable_decay");
  EXPECT_EQ(to_string(WarmupState::kKeep), "keep");
  EXPECT_EQ(to_string(SpikeAction::kRollback), "rollback");
}

TEST(ParseEnum, SaysWhichNamesThereAre) {
  try {
    parse_enum<Scope>("batch");
    FAIL();
  } catch (const std::invalid_argument& error) {
    EXPECT_STREQ(error.what(), "is not one of context, document");
  }
}

}  // namespace
}  // namespace lorikeet
