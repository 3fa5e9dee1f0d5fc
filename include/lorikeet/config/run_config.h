#pragma once
#include <string>
#include <vector>

#include "lorikeet/config/model_config.h"
#include "lorikeet/config/quantity.h"

namespace lorikeet {

enum class DeviceChoice { kAuto, kCpu, kCuda };
enum class Precision { kFp32, kBf16 };
enum class ActivationCheckpointing { kNone, kAttention, kFfn, kBlock };
enum class ScheduleKind { kCosine, kLinear, kConstant, kMultiStep, kWarmupStableDecay };
enum class WarmupState { kReset, kKeep };
enum class SpikeAction { kLog, kRollback };

/// Weight of one domain in the mixture. Domains that are not named keep their natural share of the
/// rest.
struct MixtureWeight {
  std::string domain;
  double weight = 1.0;

  bool operator==(const MixtureWeight&) const = default;
};

struct DataConfig {
  std::string shards;            ///< folder made by `lorikeet data tokenize`
  std::string tokenizer;         ///< SentencePiece model, copied into model directories
  std::string order = "random";  ///< random | similarity | a file
  std::vector<MixtureWeight> mixture;
  int64_t prefetch = 4;  ///< micro-batches made ahead

  bool operator==(const DataConfig&) const = default;
};

struct TrainConfig {
  DeviceChoice device = DeviceChoice::kAuto;
  Count tokens;  ///< one of tokens and steps
  int64_t steps = 0;
  int64_t batch_sequences = 16;  ///< of the whole world
  int64_t micro_batch = 4;       ///< sequences a rank holds at once
  Precision precision = Precision::kFp32;
  Period dense_warmup = Period::never();
  WarmupState dense_warmup_optimizer = WarmupState::kReset;
  ActivationCheckpointing activation_checkpointing = ActivationCheckpointing::kNone;
  bool deterministic = true;
  int64_t threads = 0;  ///< 0: all cores

  bool operator==(const TrainConfig&) const = default;
};

struct OptimizerConfig {
  std::string kind = "adamw";
  std::vector<double> betas = {0.9, 0.95};
  double eps = 1e-8;
  double weight_decay = 0.1;  ///< on matrices only
  double clip_norm = 1.0;     ///< 0: off

  bool operator==(const OptimizerConfig&) const = default;
};

struct ScheduleConfig {
  ScheduleKind kind = ScheduleKind::kCosine;
  double peak = 2e-4;
  Period warmup = Period::percent(5);
  double final_fraction = 0.1;  ///< of the peak, where cosine, linear and warmup_stable_decay end
  Period decay = Period::percent(20);  ///< length of the last phase of warmup_stable_decay
  Period anneal = Period::never();     ///< final linear anneal to 0, with a reshuffle of the data

  bool operator==(const ScheduleConfig&) const = default;
};

struct CheckpointConfig {
  Period every = Period::steps(1000);
  int64_t keep_last = 3;
  Period keep_every = Period::never();
  std::string local;  ///< folder on a fast disk of each node; empty: none

  bool operator==(const CheckpointConfig&) const = default;
};

struct EvaluateConfig {
  Period every = Period::steps(500);
  int64_t batches = 50;  ///< per domain, at most

  bool operator==(const EvaluateConfig&) const = default;
};

struct LogConfig {
  int64_t trace_first = 0;  ///< step; 0: never
  int64_t trace_steps = 3;
  Period every = Period::steps(10);
  bool tensorboard = true;
  double peak_flops = 0;  ///< FLOP/s of the device for MFU; 0: measured at start

  bool operator==(const LogConfig&) const = default;
};

struct SafetyConfig {
  int64_t max_skipped_steps = 10;  ///< non-finite steps in a row before the run is called diverged
  double spike_threshold = 6.0;    ///< standard deviations above the recent mean; 0: off
  SpikeAction spike_action = SpikeAction::kLog;
  int64_t max_rollbacks = 3;

  bool operator==(const SafetyConfig&) const = default;
};

struct ParallelConfig {
  int64_t replicate = 0;  ///< 0: auto
  int64_t shard = 1;
  int64_t zero = 1;
  int64_t slice = 1;
  Period timeout = Period::seconds(600);  ///< after which a waiting rank takes another for stuck

  bool operator==(const ParallelConfig&) const = default;
};

/// Everything a run is made of: the YAML file, key by key (docs/config.md).
struct RunConfig {
  std::string name = "run";
  std::string output = "runs";
  int64_t seed = 1;
  ModelConfig model;
  DataConfig data;
  TrainConfig train;
  OptimizerConfig optimizer;
  ScheduleConfig schedule;
  CheckpointConfig checkpoint;
  EvaluateConfig evaluate;
  LogConfig log;
  SafetyConfig safety;
  ParallelConfig parallel;

  bool operator==(const RunConfig&) const = default;
};

/// Tokens of one optimizer step: batch_sequences x context_length.
int64_t tokens_per_step(const RunConfig& config);
/// Length of the run: train.steps, or train.tokens rounded to the nearest whole step; at least 1.
int64_t total_steps(const RunConfig& config);

}  // namespace lorikeet
