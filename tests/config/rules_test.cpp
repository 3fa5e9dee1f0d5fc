// Rules between keys, each with its message, place and fix.
#include <cmath>

#include "config_testing.h"

namespace lorikeet {
namespace {

/// A merged model whose other settings are fine, with `more` in its feed_forward.
std::string merged_with(const std::string& more, const std::string& train = "steps: 1000") {
  return "train: {" + train + "}\nmodel:\n  feed_forward:\n    kind: merged\n    " + more + "\n";
}

TEST(ModelRules, SegmentsDivideTheContext) {
  EXPECT_EQ(
      error_of("train: {steps: 1000}\nmodel:\n  context_length: 4096\n  feed_forward:\n"
               "    kind: merged\n    segment_length: 300\n"),
      "run.yaml:6: model.feed_forward.segment_length: 300 does not divide model.context_length "
      "4096 | use 256 or 512");
  EXPECT_EQ(
      error_of(merged_with("segment_length: 2048")),
      "run.yaml:5: model.feed_forward.segment_length: 2048 is more than model.context_length 1024 "
      "| use 1024");
  EXPECT_EQ(error_of(merged_with("segment_length: 1024")), "");
}

TEST(ModelRules, TheCulpritIsWhatTheUserSet) {
  EXPECT_EQ(error_of("train: {steps: 1000}\nmodel:\n  context_length: 1000\n"
                     "  feed_forward: {kind: merged}\n"),
            "run.yaml:3: model.feed_forward.segment_length: 256 (default) does not divide "
            "model.context_length 1000 | use 250 or 500");
  EXPECT_EQ(
      error_of(merged_with(""), {"model.context_length=1000"}),
      "--set model.context_length=1000: model.feed_forward.segment_length: 256 (default) does not "
      "divide model.context_length 1000 | use 250 or 500");
}

TEST(ModelRules, SegmentsOfDocumentsAndSequencesNeedNotDivide) {
  EXPECT_EQ(error_of(merged_with("routing: sequence\n    segment_length: 300")), "");
  EXPECT_EQ(error_of(merged_with("routing: sequence\n    segment_length: 2048")), "");
  EXPECT_EQ(error_of(merged_with("segment_scope: document\n    first_segment: uniform\n"
                                 "    segment_length: 300")),
            "");
}

TEST(ModelRules, DocumentScopeNeedsACausalFirstSegment) {
  const std::string error =
      "run.yaml:5: model.feed_forward.first_segment: self_stop_gradient (default) would let tokens "
      "see "
      "later ones in every document, with model.feed_forward.segment_scope document | use uniform "
      "or "
      "learned";
  EXPECT_EQ(error_of(merged_with("segment_scope: document")), error);
  EXPECT_EQ(error_of(merged_with("segment_scope: document\n    first_segment: learned")), "");
  EXPECT_EQ(error_of(merged_with("segment_scope: document\n    routing: sequence")), "");
}

TEST(ModelRules, CopiedExpertsNeedARandomRouter) {
  EXPECT_EQ(error_of(merged_with("expert_init: copied\n    router_init_std: 0")),
            "run.yaml:6: model.feed_forward.router_init_std: 0 with model.feed_forward.expert_init "
            "copied "
            "never tells the experts apart: equal experts give the router no gradient | use 0.02");
  EXPECT_EQ(error_of(merged_with("expert_init: preserve\n    router_init_std: 0")), "");
  EXPECT_EQ(error_of(merged_with("router_init_std: 0", "steps: 1000, dense_warmup: 5%")),
            "run.yaml:1: train.dense_warmup: 5% with model.feed_forward.router_init_std 0 never "
            "tells the "
            "copied experts apart: equal experts give the router no gradient | "
            "set model.feed_forward.router_init_std: 0.02");
}

TEST(ModelRules, SmearOptionsAreForSequenceRouting) {
  EXPECT_EQ(
      error_of(merged_with("smear: {router_bias: true, expert_dropout: 0.5}")),
      "run.yaml:5: model.feed_forward.smear.router_bias: true is for model.feed_forward.routing "
      "sequence, not causal_segment\n"
      "run.yaml:5: model.feed_forward.smear.expert_dropout: 0.5 is for model.feed_forward.routing "
      "sequence, not causal_segment | model.feed_forward.smear.router_bias: remove it, or set "
      "routing: sequence; model.feed_forward.smear.expert_dropout: remove it, or set routing: "
      "sequence");
  EXPECT_EQ(error_of(merged_with("smear: {input_norm: true}\n    routing: sequence")), "");
}

TEST(ModelRules, MergedKeysAreIgnoredInADenseModel) {
  EXPECT_EQ(error_of(run_with("model: {feed_forward: {kind: dense, segment_length: 300, "
                              "segment_scope: document, router_init_std: 0, expert_init: copied, "
                              "smear: {router_bias: true}}}")),
            "");
}

TEST(ModelRules, HeadsDivideTheWidthAndAreEven) {
  EXPECT_EQ(
      error_of(run_with("model: {num_heads: 12}")),
      "run.yaml:2: model.hidden_size: 512 (default) is not a multiple of model.num_heads 12 | "
      "use 504 or 528, or set model.head_dim");
  EXPECT_EQ(
      error_of(run_with("model: {num_heads: 1024}")),
      "run.yaml:2: model.hidden_size: 512 (default) is not a multiple of model.num_heads 1024 | "
      "use 2048, or set model.head_dim");
  EXPECT_EQ(error_of(run_with("model: {num_heads: 12, hidden_size: 528}")), "");
  EXPECT_EQ(error_of(run_with("model: {num_heads: 12, head_dim: 32}")), "");
  EXPECT_EQ(
      error_of(run_with("model: {head_dim: 33}")),
      "run.yaml:2: model.head_dim: 33 is odd, and rotary embeddings turn pairs | use 32 or 34");
  EXPECT_EQ(
      error_of(run_with("model: {hidden_size: 40}")),
      "run.yaml:2: model.hidden_size: 40 over model.num_heads 8 makes heads of 5, an odd size, and "
      "rotary embeddings turn pairs | use 32 or 48");
}

TEST(ModelRules, KeyValueHeadsDivideHeads) {
  EXPECT_EQ(error_of(run_with("model: {num_kv_heads: 3}")),
            "run.yaml:2: model.num_kv_heads: 3 does not divide model.num_heads 8 | use 2 or 4");
  EXPECT_EQ(error_of(run_with("model: {num_kv_heads: 16}")),
            "run.yaml:2: model.num_kv_heads: 16 does not divide model.num_heads 8 | use 8");
  EXPECT_EQ(error_of(run_with("model: {num_kv_heads: 2}")), "");
  EXPECT_EQ(error_of(run_with("model: {num_kv_heads: auto}")), "");
}

TEST(ModelRules, AbsurdTotalsAreRefusedWithoutOverflow) {
  const std::string error = error_of(
      run_with("model: {hidden_size: 1048576, num_layers: 10000, ffn_size: 16777216, feed_forward: "
               "{kind: merged, num_experts: 4096}}"));
  EXPECT_EQ(error, "run.yaml:2: model: 2.2e+21 parameters are more than 2^60 | make it smaller");
}

TEST(RunRules, ExactlyOneOfTokensAndSteps) {
  EXPECT_EQ(error_of("name: a\n"),
            "run.yaml: train.tokens: the run has no length | set train.tokens (such as 10M) or "
            "train.steps");
  EXPECT_EQ(error_of("train:\n  tokens: 10M\n  steps: 5\n"),
            "run.yaml:2: train.tokens: 10M and train.steps 5 both give the run's length | "
            "remove one of them, or set it to 0");
  EXPECT_EQ(error_of("train: {tokens: 10M}\n", {"train.steps=100", "train.tokens=0"}), "");
}

TEST(RunRules, MicroBatchDividesTheBatch) {
  EXPECT_EQ(
      error_of("train: {steps: 100, batch_sequences: 16, micro_batch: 6}"),
      "run.yaml:1: train.micro_batch: 6 does not divide train.batch_sequences 16 | use 4 or 8");
  EXPECT_EQ(
      error_of("train: {steps: 100, batch_sequences: 2}"),
      "run.yaml:1: train.micro_batch: 4 (default) is more than train.batch_sequences 2 | use 2");
}

TEST(RunRules, TheBatchIsWholeMicroBatchesOfEveryRank) {
  const std::string fewer = ", or fewer ranks or a smaller train.micro_batch";
  EXPECT_EQ(error_of(run_with("parallel: {shard: 8}")),
            "run.yaml:2: train.batch_sequences: 16 (default) is not a multiple of 32: "
            "train.micro_batch 4 x 8 ranks of parallel | use 32" +
                fewer);
  EXPECT_EQ(error_of(run_with("parallel: {replicate: 3}")),
            "run.yaml:2: train.batch_sequences: 16 (default) is not a multiple of 12: "
            "train.micro_batch 4 x 3 ranks of parallel | use 12 or 24" +
                fewer);
  const std::string absurd = error_of(run_with("parallel: {replicate: 1048576, shard: 1048576}"));
  EXPECT_EQ(absurd.substr(absurd.find(" | ")), " | use fewer ranks or a smaller train.micro_batch");
  EXPECT_EQ(error_of(run_with("parallel: {replicate: 2, shard: 2}")), "");
  EXPECT_EQ(error_of(run_with("parallel: {replicate: auto, shard: 4}")), "");
}

TEST(RunRules, AbsurdProductsAreRefusedWithoutOverflow) {
  EXPECT_EQ(
      error_of("train: {steps: 1000000000000, batch_sequences: 16777216}\n"
               "model: {context_length: 16777216}"),
      "run.yaml:1: train.steps: 1000000000000 steps of 281,474,976,710,656 tokens are more than "
      "2^60 tokens | use fewer steps, or a smaller train.batch_sequences or model.context_length");
  EXPECT_EQ(error_of("train: {steps: 4096, batch_sequences: 16777216}\n"
                     "model: {context_length: 16777216}"),
            "");
  EXPECT_EQ(error_of("train: {steps: 10, batch_sequences: 1048576, micro_batch: 1048576}\n"
                     "model: {context_length: 16777216}"),
            "run.yaml:2: model: 2.3e+19 bytes of weights and activations are more than 2^62 | "
            "make model.context_length, train.micro_batch or the model smaller");
}

TEST(RunRules, DenseWarmupNeedsExpertsAndEnds) {
  EXPECT_EQ(error_of("train: {steps: 100, dense_warmup: 5%}"),
            "run.yaml:1: train.dense_warmup: 5% needs experts to copy the dense layers into, and "
            "model.feed_forward.kind is dense | remove it, or set kind: merged");
  EXPECT_EQ(
      error_of(merged_with("", "steps: 2000, dense_warmup: 2000steps")),
      "run.yaml:1: train.dense_warmup: 2Ksteps leaves no step of 2,000 for the experts | use 5%");
  EXPECT_EQ(error_of(merged_with("", "steps: 2000, dense_warmup: 1999steps")), "");
  EXPECT_EQ(error_of("train: {steps: 100, dense_warmup: 0%}"), "");
}

TEST(RunRules, ThePhasesOfTheScheduleFitInTheRun) {
  EXPECT_EQ(
      error_of(run_with("schedule: {warmup: 1001steps}")),
      "run.yaml:2: schedule.warmup: 1001steps (1,001 steps) do not fit in the run of 1,000 steps | "
      "make them shorter, such as schedule.warmup 5%, or the run longer");
  EXPECT_EQ(
      error_of(run_with("schedule: {kind: warmup_stable_decay, warmup: 50%, decay: 30%, anneal: "
                        "30%}")),
      "run.yaml:2: schedule.warmup: 50% (500 steps), schedule.decay (300), schedule.anneal (300) "
      "do "
      "not fit in the run of 1,000 steps | make them shorter, such as schedule.warmup 5%, or the "
      "run longer");
  EXPECT_EQ(error_of(run_with("schedule: {kind: cosine, warmup: 50%, decay: 90%}")), "");
  EXPECT_EQ(error_of("train: {steps: 1}"), "");
}

TEST(Validate, AModelOnItsOwnIsNamedByKeyAndPlace) {
  ModelConfig model;
  EXPECT_NO_THROW(validate(model));
  model.num_kv_heads = 3;
  try {
    validate(model, "dir/config.json", ExitCode::kCheckpoint);
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(),
                 "dir/config.json: model.num_kv_heads: 3 does not divide model.num_heads 8");
    EXPECT_EQ(error.hint(), "use 2 or 4");
    EXPECT_EQ(error.code(), ExitCode::kCheckpoint);
  }
}

TEST(Validate, RangesComeBeforeRulesSoThatNothingIsDividedByZero) {
  ModelConfig model;
  model.num_heads = 0;
  model.hidden_size = -4;
  model.rope_theta = std::nan("");
  model.feed_forward.routing = static_cast<Routing>(9);
  try {
    validate(model);
    FAIL();
  } catch (const std::out_of_range&) {
    FAIL() << "a broken enum must be a usage error";
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()),
              "model.hidden_size: -4 is not 1 to 1,048,576\nmodel.num_heads: 0 is not 1 to 65,536\n"
              "model.rope_theta: nan is not at least 1 and at most 1000000000000\n"
              "model.feed_forward.routing: 9 is outside its enum");
  }
}

TEST(Validate, ARunMadeInCodeIsCheckedToo) {
  RunConfig config;
  EXPECT_THROW(validate(config), Error);
  config.train.steps = 10;
  EXPECT_NO_THROW(validate(config));
  config.schedule.peak = -1;
  EXPECT_THROW(validate(config), Error);
}

}  // namespace
}  // namespace lorikeet
