#pragma once
#include "lorikeet/config/run_config.h"
#include "schema_model.h"

namespace lorikeet {

// Every key of a run's configuration, once: name, member, rule, meaning. Parsing, --print-config,
// range checks, the nearest known key and docs/config.md are visitors of these functions:
//   visitor.field(key, member, rule, meaning)     visitor.section(key, member, meaning)

namespace schema {
inline const Units kPointInRun = {
    {Period::Unit::kSteps, Period::Unit::kTokens, Period::Unit::kPercent, Period::Unit::kNever}};
inline const Units kRecurring = {
    {Period::Unit::kSteps, Period::Unit::kTokens, Period::Unit::kSeconds, Period::Unit::kNever}};
inline const Units kRecurringSteps = {
    {Period::Unit::kSteps, Period::Unit::kTokens, Period::Unit::kNever}};
inline const Units kDuration = {{Period::Unit::kSeconds}};
inline constexpr int64_t kMostSequences = 1 << 24;
inline constexpr int64_t kMostSteps = 1'000'000'000'000;
inline constexpr int64_t kMostTokens = 1'000'000'000'000'000;
}  // namespace schema

template <class Visitor>
void describe(Visitor& v, DataConfig& c) {
  v.field("shards", c.shards, Text{.what = "a folder"},
          "Token shards, made by `lorikeet data tokenize`.");
  v.field(
      "tokenizer", c.tokenizer, Text{.what = "a file"},
      "SentencePiece model for `lorikeet consolidate` where the one beside the shards is gone; a "
      "run that names another one than that is refused. Model directories get the shards' own.");
  v.field("order", c.order, Text{.what = "random, similarity, or a file", .may_be_empty = false},
          "In which order documents fill contexts: shuffled, similar ones after each other, or as "
          "a document order file says.");
  v.field("mixture", c.mixture, Real{.max = 1e6},
          "Weight of each domain in the mixture, `{domain: weight}`. Domains that are not named "
          "keep their natural share of the rest.");
  v.field("prefetch", c.prefetch, Whole{1, 4096}, "Micro-batches made ahead of their use.");
}

template <class Visitor>
void describe(Visitor& v, TrainConfig& c) {
  v.field("device", c.device, Any{}, "Where to train; `auto` takes CUDA where there is a GPU.");
  v.field("tokens", c.tokens, Whole{0, schema::kMostTokens},
          "Length of the run in tokens, rounded to whole steps. Give this or `steps`.");
  v.field("steps", c.steps, Whole{0, schema::kMostSteps}, "Length of the run in steps.");
  v.field("batch_sequences", c.batch_sequences, Whole{1, schema::kMostSequences},
          "Sequences a step, of the whole world; accumulation follows from this, `micro_batch` and "
          "the number of ranks.");
  v.field("micro_batch", c.micro_batch, Whole{1, 1 << 20},
          "Sequences a rank holds at once; this times the ranks divides `batch_sequences`.");
  v.field("precision", c.precision, Any{},
          "Of matrix products. Master weights, optimizer state, router, norms and losses are fp32 "
          "either way.");
  v.field("dense_warmup", c.dense_warmup, schema::kPointInRun,
          "How long a dense model is trained before its feed-forward layers are copied into every "
          "expert; part of the same run (Lory: 5%).");
  v.field("dense_warmup_optimizer", c.dense_warmup_optimizer, Any{},
          "Whether optimizer state survives the switch from dense to merged.");
  v.field("activation_checkpointing", c.activation_checkpointing, Any{},
          "What is computed again in the backward pass instead of being kept.");
  v.field("deterministic", c.deterministic, Any{}, "The same run gives the same bits.");
  v.field("threads", c.threads, Whole{1, 4096, "auto"}, "CPU threads; `auto`: all cores.");
}

template <class Visitor>
void describe(Visitor& v, OptimizerConfig& c) {
  v.field("kind", c.kind, Text{.choices = {"adamw"}}, "The optimizer.");
  v.field("betas", c.betas, Numbers{2, Real{.max = 1, .max_allowed = false}},
          "Decay rates of the running means of gradients and of their squares.");
  v.field("eps", c.eps, Real{.max = 1, .min_allowed = false}, "Added to the denominator.");
  v.field("weight_decay", c.weight_decay, Real{.max = 100},
          "Decoupled; on matrices only, not on norms and biases.");
  v.field("clip_norm", c.clip_norm, Real{.max = 1e9},
          "Largest global gradient norm; larger gradients are scaled down to it. 0: off.");
}

template <class Visitor>
void describe(Visitor& v, ScheduleConfig& c) {
  v.field("kind", c.kind, Any{}, "Shape of the learning rate after warm-up.");
  v.field("peak", c.peak, Real{.max = 100, .min_allowed = false}, "Highest learning rate.");
  v.field("warmup", c.warmup, schema::kPointInRun, "Linear rise from 0 to the peak.");
  v.field("final_fraction", c.final_fraction, Real{.max = 1},
          "Of the peak, where cosine, linear and warmup_stable_decay end.");
  v.field("decay", c.decay, schema::kPointInRun,
          "Length of the last phase of "
          "warmup_stable_decay.");
  v.field("anneal", c.anneal, schema::kPointInRun,
          "Final linear fall to 0, with a reshuffle of the data.");
}

template <class Visitor>
void describe(Visitor& v, CheckpointConfig& c) {
  v.field("every", c.every, schema::kRecurring, "How often a checkpoint is written.");
  v.field("keep_last", c.keep_last, Whole{1, 1'000'000}, "Newest checkpoints that are kept.");
  v.field("keep_every", c.keep_every, schema::kRecurringSteps,
          "Checkpoints at multiples of this are kept for good.");
  v.field(
      "local", c.local, Text{.what = "a folder"},
      "A fast disk of each node: what is saved during the run waits there, not in memory, while "
      "it is copied to the run's folder.");
}

template <class Visitor>
void describe(Visitor& v, EvaluateConfig& c) {
  v.field("every", c.every, schema::kRecurring, "How often the validation loss is measured.");
  v.field("batches", c.batches, Whole{1, 1'000'000'000},
          "Validation batches, of `train.micro_batch` sequences, at most, for each domain. With "
          "another `micro_batch` other sequences are validated.");
}

template <class Visitor>
void describe(Visitor& v, LogConfig& c) {
  v.field("every", c.every, schema::kRecurring, "How often metrics are written.");
  v.field("tensorboard", c.tensorboard, Any{}, "Also write TensorBoard event files.");
  v.field("peak_flops", c.peak_flops, Real{.max = 1e21, .min_allowed = false, .zero_word = "auto"},
          "FLOP/s of one device, for the model FLOPs utilisation; `auto`: measured at start.");
  v.field("trace_first", c.trace_first, Whole{1, schema::kMostSteps, "never"},
          "First step of which a trace is kept: trace_rank_NNNNN.json, for ui.perfetto.dev.");
  v.field("trace_steps", c.trace_steps, Whole{1, 1000}, "How many steps are traced.");
}

template <class Visitor>
void describe(Visitor& v, SafetyConfig& c) {
  v.field("max_skipped_steps", c.max_skipped_steps, Whole{0, 1'000'000},
          "Non-finite steps in a row that are skipped before the run is called diverged.");
  v.field("spike_threshold", c.spike_threshold, Real{.max = 1e6},
          "Standard deviations above the recent mean that make a loss a spike. 0: off.");
  v.field("spike_action", c.spike_action, Any{}, "What a spike leads to.");
  v.field("max_rollbacks", c.max_rollbacks, Whole{0, 1'000'000},
          "Rollbacks before the run is called diverged.");
}

template <class Visitor>
void describe(Visitor& v, ParallelConfig& c) {
  v.field("replicate", c.replicate, Whole{1, 1 << 20, "auto"},
          "Copies of the sharded model; `auto`: as many as the ranks allow.");
  v.field("shard", c.shard, Whole{1, 1 << 20}, "Ranks that share one copy of the training state.");
  v.field("zero", c.zero, Whole{0, 3},
          "What they share: 0 nothing, 1 optimizer state, 2 also gradients, 3 also parameters.");
  v.field("slice", c.slice, Whole{1, 1},
          "Ranks among which every expert's width is cut; only 1 for now. "
          "Ranks = replicate x shard x slice.");
  v.field("timeout", c.timeout, schema::kDuration,
          "A collective that lasts longer means that a rank is stuck: the process ends with 6.");
}

template <class Visitor>
void describe(Visitor& v, RunConfig& c) {
  v.field("name", c.name, Text{.what = "a name", .may_be_empty = false, .is_file_name = true},
          "The run lives in `output`/`name`.");
  v.field("output", c.output, Text{.what = "a folder", .may_be_empty = false},
          "Where runs are kept.");
  v.field("seed", c.seed, Whole{0}, "Of weights, data order and dropout.");
  v.section("model", c.model, "The language model: a LLaMA decoder.");
  v.section("data", c.data, "What it is trained on.");
  v.section("train", c.train, "Length and batch of the run, and how it computes.");
  v.section("optimizer", c.optimizer, "The optimizer.");
  v.section("schedule", c.schedule, "The learning rate.");
  v.section("checkpoint", c.checkpoint, "What a run can be resumed from.");
  v.section("evaluate", c.evaluate, "Validation during the run.");
  v.section("log", c.log, "Metrics.");
  v.section("safety", c.safety, "What to do about non-finite steps and loss spikes.");
  v.section("parallel", c.parallel, "How ranks divide the work.");
}

}  // namespace lorikeet
