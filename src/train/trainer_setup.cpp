// How a run begins: device, folder, data, state from a checkpoint.
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <torch/torch.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

#include "lorikeet/config/load.h"
#include "lorikeet/core/error.h"
#include "lorikeet/core/file.h"
#include "lorikeet/core/first_line.h"
#include "lorikeet/core/hash.h"
#include "lorikeet/core/log.h"
#include "lorikeet/parallel/together.h"
#include "lorikeet/train/device.h"
#include "lorikeet/train/resume_rules.h"
#include "lorikeet/train/trainer.h"

namespace lorikeet {

namespace {

LoaderOptions loader_options(const RunConfig& config) {
  LoaderOptions options;
  options.context_length = config.model.context_length;
  options.seed = config.seed;
  options.order = config.data.order;
  options.mixture = config.data.mixture;
  if (!config.schedule.anneal.is_never()) {
    options.reshuffle_at = std::numeric_limits<int64_t>::max();  // Trainer::plan_anneal says where
  }
  return options;
}

/// Retention counts in steps; the store knows no other unit.
CheckpointConfig in_steps(const RunConfig& config) {
  CheckpointConfig checkpoint = config.checkpoint;
  if (!checkpoint.keep_every.is_never()) {
    checkpoint.keep_every = Period::steps(static_cast<double>(
        checkpoint.keep_every.to_steps(total_steps(config), tokens_per_step(config))));
  }
  return checkpoint;
}

std::shared_ptr<World> prepare_world(const RunConfig& run, std::shared_ptr<World> given) {
  const TrainConfig& config = run.train;
  set_up_computation(config);
  if (!given) {
    mesh_shape(run.parallel, 1);  // refuses a layout for more
    given = World::single(select_device(config.device));
  }
  if (config.batch_sequences % (config.micro_batch * given->size()) == 0) return given;
  throw Error(ExitCode::kUsage,
              fmt::format("train.batch_sequences: {} is not a multiple of train.micro_batch {} x "
                          "the {} ranks that were launched",
                          config.batch_sequences, config.micro_batch, given->size()),
              fmt::format("set train.batch_sequences to a multiple of {}, or launch fewer ranks",
                          config.micro_batch * given->size()));
}

const std::string& shards_of(const DataConfig& data) {
  if (!data.shards.empty()) return data.shards;
  throw Error(ExitCode::kUsage, "data.shards: is not set",
              "set it to a folder made by `lorikeet data tokenize`");
}

std::string run_path(const RunConfig& config) { return config.output + "/" + config.name; }

}  // namespace

Trainer::Trainer(const RunConfig& config, const TrainerOptions& options) try
    : config_(config),
      code_version_(options.code_version),
      world_(prepare_world(config, options.world)),
      total_steps_(total_steps(config)),
      warmup_steps_(dense_warmup_steps(config)),
      folder_(run_path(config), world_->is_first()),
      dataset_(shards_of(config.data), Dataset::Verify::kTables),
      loader_(dataset_, loader_options(config)),
      store_(run_path(config), in_steps(config), world_->save_exchange()),
      state_(config, *world_),
      checkpoint_clock_(config.checkpoint.every, total_steps(config), tokens_per_step(config)) {
  open_log_file(folder_.file(
      world_->is_first() ? "log.txt" : fmt::format("log_rank_{:05}.txt", world_->rank())));
  require_same_run();
  open_data();
  verify_data();
  store_.clear_leftovers();
  resume(options);
  if (world_->is_first()) {
    write_file_atomically(folder_.file("config.yaml"), dump_run_config(config_),
                          ExitCode::kCheckpoint);
  }
  start_reading();
  const auto dtype =
      config.train.precision == Precision::kBf16 ? torch::kBFloat16 : torch::kFloat32;
  peak_flops_ = config.log.peak_flops > 0 ? config.log.peak_flops
                                          : measure_peak_flops(world_->device(), dtype);
  make_callbacks();
  if (was_finished_) log_info("the run is finished already: nothing is left to do");
  // Also of a run at its end whose status a refused start has changed since.
  if (is_at_end()) {
    validation_->recall(state_.step, read_validation(folder_.file("metrics.jsonl"), state_.step));
  }
} catch (const std::exception& refusal) {  // the members are gone, and with them the folder's lock
  if (!options.world || options.world->is_first()) {
    RunFolder::record_refusal(run_path(config), first_line(refusal.what()));
  }
}

/// A rank with another configuration, data or program would train another model.
void Trainer::require_same_run() {
  world_->require_same("the configuration", dump_run_config(config_));
  world_->require_same("the data's fingerprint", to_hex(loader_.fingerprint()));
  world_->require_same("the version of lorikeet", code_version_);
}

void Trainer::open_data() {
  if (dataset_.vocab_size() > config_.model.vocab_size) {
    throw Error(
        ExitCode::kData,
        fmt::format("{}: was made with a vocabulary of {} pieces, but model.vocab_size is {}",
                    config_.data.shards, dataset_.vocab_size(), config_.model.vocab_size),
        fmt::format("set model.vocab_size to {} or more", dataset_.vocab_size()));
  }
  dataset_.verify_tokenizer();  // it goes into the model's directory at the end
  const std::string& tokenizer = config_.data.tokenizer;
  if (!tokenizer.empty() &&
      hash64(read_text_file(tokenizer, ExitCode::kData)) != dataset_.tokenizer_hash()) {
    throw Error(ExitCode::kData,
                fmt::format("data.tokenizer: {} is not the tokenizer that made {}", tokenizer,
                            config_.data.shards),
                fmt::format("leave it out, or set it to {} or a copy", dataset_.tokenizer_path()));
  }
  loader_.require_batch(config_.train.batch_sequences);
}

/// The ranks share the shards, which may be terabytes, and refuse broken ones together.
void Trainer::verify_data() {
  Exchange& ranks = *world_->save_exchange();  // which waits long enough
  together(ranks, "verifying the data", [&] {
    dataset_.verify_tokens(world_->rank(), world_->size());
    return std::string();
  });
}

void Trainer::resume(const TrainerOptions& options) {
  if (options.resume == "never") return start_over();
  for (const auto& range : read_skipped(folder_.file("skipped_data.json"))) {
    state_.cursor.skip(range);
  }
  if (options.resume == "auto") return go_on(options);
  restore(CheckpointStore::load(options.resume, what_is_mine()), options);
  world_->exchange().gather("restored");  // nothing is discarded before all ranks have theirs
  store_.discard_after(state_.step);
}

/// From the beginning, with nothing left of a run that was here and never reached a checkpoint.
void Trainer::start_over() {
  if (!store_.list().empty()) {
    throw Error(ExitCode::kUsage, fmt::format("{}: already holds checkpoints", folder_.path()),
                "give this run another `name`, remove the folder, or go on with --resume auto");
  }
  const std::string skipped = folder_.file("skipped_data.json");
  std::error_code failure;
  std::filesystem::remove(skipped, failure);
  if (failure) {
    throw Error(ExitCode::kUsage,
                fmt::format("{}: cannot be removed: {}", skipped, failure.message()),
                "remove it, or give this run another `name`");
  }
}

/// From the newest whole checkpoint, where there is one.
void Trainer::go_on(const TrainerOptions& options) {
  const auto status = folder_.status();
  const std::vector<int64_t> steps = store_.list();
  if (status && status->state == RunState::kDiverged) {
    throw Error(
        ExitCode::kDiverged,
        fmt::format("{}: this run has diverged at step {} ({}) and does not go on by itself",
                    folder_.path(), status->step, status->message),
        fmt::format("change what made it diverge and {}",
                    steps.empty() ? "start over with --resume never, or under another `name`"
                                  : "go on with --resume " + store_.path_of(steps.front())));
  }
  if (const auto content = store_.load_newest(what_is_mine())) {
    restore(*content, options);
  } else if (!steps.empty()) {
    throw Error(ExitCode::kCheckpoint,
                fmt::format("{}/checkpoints: none of {} checkpoints is whole", folder_.path(),
                            steps.size()),
                "the warnings say what each lacks; bring one back, or start anew under another "
                "`name`");
  }
  was_finished_ = status && status->state == RunState::kFinished && status->step == state_.step &&
                  is_at_end() && std::filesystem::exists(folder_.file("model"));
}

/// Of a checkpoint, which may be hundreds of gigabytes.
PieceFilter Trainer::what_is_mine() {
  return [this](const CheckpointContent& head, const std::string& name, int64_t begin,
                int64_t numel) { return state_.wants(head, name, begin, numel); };
}

void Trainer::restore(const CheckpointContent& content, const TrainerOptions& options) {
  check_resumable(content.config_yaml, config_);
  const std::string fingerprint = to_hex(loader_.fingerprint());
  if (content.data_fingerprint != fingerprint && !options.allow_changed_data) {
    throw Error(
        ExitCode::kData,
        fmt::format("{}: the data has changed: fingerprint {}, but {} when step {} was saved",
                    config_.data.shards, fingerprint, content.data_fingerprint, content.step),
        "bring the old data or its order back, or accept another data order with "
        "--allow-changed-data");
  }
  state_.restore(content);
  callback_states_ = content.states;
  log_info("resumed at step {} of {}", state_.step, last_step());
}

/// Where the final anneal's own shuffle begins: with the anneal, whatever batches came before. Once
/// it has begun it stays where it was.
void Trainer::plan_anneal() {
  if (config_.schedule.anneal.is_never()) return;
  const int64_t anneal = config_.schedule.anneal.to_steps(total_steps_, tokens_per_step(config_));
  const int64_t steps_before = total_steps_ - anneal - progress();
  int64_t& at = state_.reshuffled_at;
  const int64_t sequences_before = steps_before * config_.train.batch_sequences;
  if (steps_before >= 0) {
    at = state_.cursor.peek(sequences_before);
  } else if (at < 0) {  // of a checkpoint that does not say
    at = std::max<int64_t>(0, state_.cursor.position() + sequences_before);
  }
  loader_.move_reshuffle(at);
}

/// This rank's micro-batches from the cursor on, made ahead in the background.
void Trainer::start_reading() {
  prefetcher_.reset();
  plan_anneal();
  const int64_t batch = config_.train.batch_sequences, micro = config_.train.micro_batch;
  const int64_t share = batch / world_->size(), rank = world_->rank();
  std::vector<int64_t> left;  // of the step, in reverse
  const auto plan = [=, cursor = state_.cursor](int64_t) mutable {
    if (left.empty()) {
      const std::vector<int64_t> all = cursor.take(batch);
      left.assign(all.rbegin() + (batch - (rank + 1) * share), all.rend() - rank * share);
    }
    std::vector<int64_t> taken;
    while (!left.empty() && static_cast<int64_t>(taken.size()) < micro) {
      taken.push_back(left.back());
      left.pop_back();
    }
    return taken;
  };
  prefetcher_ = std::make_unique<Prefetcher>(loader_, plan, config_.data.prefetch);
}

/// As they are at state_.step: metrics of later steps are cut away, states come from the
/// checkpoint.
void Trainer::make_callbacks() {
  sink_.reset();
  if (world_->is_first()) {
    sink_ = std::make_unique<MetricsSink>(folder_.path(), config_.log.tensorboard, state_.step);
  }
  auto log = std::make_unique<LogCallback>(config_, sink_.get(), *world_, peak_flops_);
  auto validation = std::make_unique<ValidationCallback>(config_, dataset_, sink_.get(), *world_);
  log_ = log.get();
  validation_ = validation.get();
  callbacks_.clear();
  if (world_->is_first()) {
    callbacks_.push_back(
        std::make_unique<ProgressCallback>(config_.name, state_.step, last_step()));
  }
  callbacks_.push_back(std::move(log));
  callbacks_.push_back(std::move(validation));
  for (const auto& callback : callbacks_) {
    const auto found = callback_states_.find(kCallbackPrefix + callback->name());
    if (found != callback_states_.end()) callback->load_state(found->second);
  }
}

}  // namespace lorikeet
