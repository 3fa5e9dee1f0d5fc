#include "lorikeet/model/sequence_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>

namespace lorikeet {
namespace {

using testing::ElementsAre;

FeedForwardConfig merged(Routing routing, FirstSegment first = FirstSegment::kSelfStopGradient) {
  FeedForwardConfig config;
  config.kind = FeedForwardKind::kMerged;
  config.segment_length = 4;
  config.routing = routing;
  config.first_segment = first;
  return config;
}

TEST(SegmentLayout, CausalSegmentsTakeTheirPredecessorsDecision) {
  const auto layout = make_segment_layout(merged(Routing::kCausalSegment), 2, 12, {});
  EXPECT_THAT(layout.offsets, ElementsAre(0, 4, 8, 12, 16, 20, 24));
  // 6 segments: rows 6 + g are stop-gradients of g's own decision.
  EXPECT_THAT(layout.sources, ElementsAre(6, 0, 1, 9, 3, 4));
  EXPECT_THAT(layout.is_first, ElementsAre(true, false, false, true, false, false));
}

TEST(SegmentLayout, PrefixSegmentsTakeTheFirstOnesDecision) {
  const auto layout = make_segment_layout(merged(Routing::kPrefix), 2, 12, {});
  EXPECT_THAT(layout.offsets, ElementsAre(0, 4, 12, 16, 24)) << "merged once for all later tokens";
  EXPECT_THAT(layout.sources, ElementsAre(4, 0, 6, 2));
}

TEST(SegmentLayout, AFirstSegmentWithAPriorUsesTheLastCandidate) {
  for (const auto first : {FirstSegment::kUniform, FirstSegment::kLearned}) {
    const auto layout = make_segment_layout(merged(Routing::kPrefix, first), 1, 12, {});
    EXPECT_THAT(layout.sources, ElementsAre(4, 0));
  }
}

TEST(SegmentLayout, SequenceRoutingIsOneSegmentARowWithGradient) {
  const auto layout = make_segment_layout(merged(Routing::kSequence), 3, 10, {});
  EXPECT_THAT(layout.offsets, ElementsAre(0, 10, 20, 30));
  EXPECT_THAT(layout.sources, ElementsAre(0, 1, 2));
}

TEST(SegmentLayout, LastSegmentsMayBeShort) {
  const auto layout = make_segment_layout(merged(Routing::kCausalSegment), 2, 6, {});
  EXPECT_THAT(layout.offsets, ElementsAre(0, 4, 6, 10, 12));
  const auto tiny = make_segment_layout(merged(Routing::kCausalSegment), 1, 1, {});
  EXPECT_THAT(tiny.offsets, ElementsAre(0, 1));
}

TEST(SegmentLayout, DocumentScopeRestartsSegmentsWithEachDocument) {
  FeedForwardConfig config = merged(Routing::kCausalSegment, FirstSegment::kUniform);
  config.segment_scope = Scope::kDocument;
  const auto layout = make_segment_layout(config, 2, 12, {{5, 7}, {12}});
  EXPECT_THAT(layout.offsets, ElementsAre(0, 4, 5, 9, 12, 16, 20, 24));
  EXPECT_THAT(layout.sources, ElementsAre(14, 0, 14, 2, 14, 4, 5));
}

TEST(SegmentLayout, ContextScopeIgnoresDocuments) {
  const auto layout = make_segment_layout(merged(Routing::kCausalSegment), 1, 12, {{5, 7}});
  EXPECT_THAT(layout.offsets, ElementsAre(0, 4, 8, 12));
}

TEST(SegmentLayout, DocumentLengthsThatDoNotFitAreRefused) {
  const FeedForwardConfig config = merged(Routing::kCausalSegment);
  EXPECT_THROW(make_segment_layout(config, 1, 12, {{5, 6}}), std::invalid_argument);
  EXPECT_THROW(make_segment_layout(config, 1, 12, {{12, 0}}), std::invalid_argument);
  EXPECT_THROW(make_segment_layout(config, 1, 12, {{-1, 13}}), std::invalid_argument);
  EXPECT_THROW(make_segment_layout(config, 2, 12, {{12}}), std::invalid_argument);
}

}  // namespace
}  // namespace lorikeet
