#include "lorikeet/train/resume_rules.h"

#include <gmock/gmock.h>

#include "lorikeet/config/load.h"
#include "tests/core/temporary_folder.h"

namespace lorikeet {
namespace {

using ::testing::AllOf;
using testing::error_of;
using ::testing::HasSubstr;
using ::testing::Not;

const char* const kYaml = R"(
model: {hidden_size: 64, num_layers: 2, num_heads: 2, ffn_size: 96, context_length: 64,
  feed_forward: {kind: merged, segment_length: 16}}
data: {shards: tokens, mixture: {news: 0.5}}
train: {steps: 100, dense_warmup: 10steps}
)";

RunConfig changed(const std::vector<std::string>& overrides) {
  return parse_run_config(kYaml, "run.yaml", overrides);
}
std::string saved() { return dump_run_config(changed({})); }

TEST(ResumeRules, TheSameConfigurationGoesOn) {
  EXPECT_NO_THROW(check_resumable(saved(), changed({})));
}

TEST(ResumeRules, LengthSpeedPlacesAndVisibilityMayChange) {
  for (const char* free :
       {"train.steps=200", "train.batch_sequences=32", "train.micro_batch=2", "schedule.peak=1e-3",
        "optimizer.weight_decay=0", "checkpoint.every=5steps", "evaluate.every=never",
        "log.every=1steps", "safety.spike_threshold=0", "data.shards=elsewhere", "data.prefetch=9",
        "train.precision=bf16", "train.threads=1", "train.activation_checkpointing=block",
        "model.feed_forward.kernel=reference", "name=other", "output=elsewhere"}) {
    EXPECT_NO_THROW(check_resumable(saved(), changed({free}))) << free;
  }
}

TEST(ResumeRules, TheModelTheDataOrderAndTheCourseUpToHereMayNot) {
  const auto refused = [](const std::string& override) {
    return error_of(ExitCode::kUsage, [&] { check_resumable(saved(), changed({override})); });
  };
  EXPECT_THAT(refused("seed=2"), HasSubstr("seed: 1 in the checkpoint, 2 now"));
  EXPECT_THAT(refused("model.num_layers=3"),
              HasSubstr("model.num_layers: 2 in the checkpoint, 3 now"));
  EXPECT_THAT(refused("model.feed_forward.segment_length=32"),
              HasSubstr("model.feed_forward.segment_length: 16 in the checkpoint, 32 now"));
  EXPECT_THAT(
      refused("model.feed_forward.routing=prefix"),
      HasSubstr("model.feed_forward.routing: causal_segment in the checkpoint, prefix now"));
  EXPECT_THAT(refused("data.order=similarity"), HasSubstr("data.order: random in the checkpoint"));
  EXPECT_THAT(refused("train.dense_warmup=20steps"), HasSubstr("train.dense_warmup: 10steps"));
  EXPECT_THAT(refused("train.dense_warmup_optimizer=keep"),
              HasSubstr("train.dense_warmup_optimizer: reset in the checkpoint, keep now"));
  EXPECT_THAT(refused("data.mixture.news=0.25"),
              HasSubstr("data.mixture.news: 0.5 in the checkpoint, 0.25 now"));
}

TEST(ResumeRules, NamesEveryChangeAtOnceAndADomainOnOneSideAlone) {
  const std::string message = error_of(ExitCode::kUsage, [] {
    check_resumable(saved(), changed({"seed=9", "model.ffn_size=128", "data.mixture.code=0.1",
                                      "train.steps=7000"}));
  });
  EXPECT_THAT(message, AllOf(HasSubstr("seed: 1 in the checkpoint, 9 now"),
                             HasSubstr("model.ffn_size: 96 in the checkpoint, 128 now"),
                             HasSubstr("data.mixture.code: absent in the checkpoint, 0.1 now"),
                             Not(HasSubstr("train.steps")), HasSubstr("hint: set them back")));
}

}  // namespace
}  // namespace lorikeet
