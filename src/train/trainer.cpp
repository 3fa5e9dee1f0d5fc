// The training loop. How a run is set up and resumed is in trainer_setup.cpp.
#include "lorikeet/train/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <exception>
#include <optional>
#include <string>
#include <utility>

#include "lorikeet/config/load.h"
#include "lorikeet/core/error.h"
#include "lorikeet/core/file.h"
#include "lorikeet/core/first_line.h"
#include "lorikeet/core/hash.h"
#include "lorikeet/core/log.h"
#include "lorikeet/core/measure.h"
#include "lorikeet/model/load.h"
#include "lorikeet/optim/clip.h"
#include "lorikeet/optim/schedule.h"
#include "lorikeet/train/agreement.h"
#include "lorikeet/train/batch_loss.h"

namespace lorikeet {

namespace {

std::vector<torch::Tensor> values_of(const std::vector<OptimizerTensor>& tensors) {
  std::vector<torch::Tensor> values;
  for (const OptimizerTensor& tensor : tensors) values.push_back(tensor.values);
  return values;
}

}  // namespace

RunResult Trainer::run() {
  try {
    return train();
  } catch (const std::exception& failure) {
    try {
      folder_.set_status({RunState::kFailed, state_.step, last_step(), first_line(failure.what())});
    } catch (const Error& error) {
      log_error("{}", error.what());
    }
    throw;
  }
}

/// How far the run is, in steps of the batch that it has now. A run of `train.steps` counts steps;
/// one of `train.tokens` counts tokens, whose steps may have had another batch before it was
/// resumed.
int64_t Trainer::progress() const {
  return config_.train.steps > 0 ? state_.step : state_.tokens / tokens_per_step(config_);
}

RunResult Trainer::train() {
  if (was_finished_) return leave(RunState::kFinished);
  folder_.set_status({RunState::kRunning, state_.step, last_step(), ""});
  if (is_stop_requested_anywhere()) return leave(RunState::kPreempted);
  while (!is_at_end()) {
    if (state_.is_dense_warmup() && progress() >= warmup_steps_) {
      state_.end_dense_warmup();
      log_info("step {}: dense warm-up ends, {} experts are copied from each dense layer",
               state_.step, config_.model.feed_forward.num_experts);
    }
    Trace& trace = world_->mesh().monitor().trace();
    if (state_.step + 1 == config_.log.trace_first) trace.start();
    const StepReport report = train_step();
    if (trace.is_on() && state_.step + 1 >= config_.log.trace_first + config_.log.trace_steps) {
      write_trace();
    }
    times_.add(TimeShares::kSteps, report.seconds - report.data_seconds);
    times_.add("waiting for data", report.data_seconds);
    for (const auto& callback : callbacks_) {
      times_.measure(callback.get() == validation_ ? TimeShares::kValidation : "logging",
                     [&] { callback->after_step(report, state_); });
    }
    if (!handle_bad_day(report)) return leave(RunState::kDiverged, divergence_);
    must_stop_ |= world_->size() == 1 && signals_.stop_requested();
    if (must_stop_) return leave(RunState::kPreempted);
    if (state_.step != report.step) continue;  // rolled back: what is there now was just loaded
    const bool is_due = checkpoint_clock_.is_due(state_.step, report.clock);
    if (std::exchange(must_save_, false) || (is_due && !is_at_end())) {
      times_.measure("checkpoints", [&] { save(/*in_background=*/true); });
    }
  }
  return leave(RunState::kFinished);
}

/// Forward, backward, clip, optimise; the gradients are those of the global batch's mean loss.
StepReport Trainer::train_step() {
  const auto start = std::chrono::steady_clock::now();
  StepReport report;
  report.learning_rate =
      learning_rate(config_.schedule, progress(), total_steps_, tokens_per_step(config_));

  state_.sharded->zero_grad();
  const BatchLoss loss = accumulate_gradients(report);
  const std::vector<torch::Tensor> gradients = values_of(state_.sharded->optimizer_tensors());
  const StepSums sums =
      add_over_ranks({loss, sum_of_squares(gradients), seconds_since(start), seconds_since(begun_),
                      signals_.stop_requested(), signals_.take_checkpoint_request()},
                     *world_);
  report.grad_norm = sums.norm.item<double>();
  report.is_skipped = !std::isfinite(sums.loss_sum + report.grad_norm);
  if (!report.is_skipped) {
    const Trace::Span span(world_->mesh().monitor().trace(), kComputeTrack, "optimizer");
    scale_gradients(gradients, sums.norm, config_.optimizer.clip_norm);
    state_.optimizer->step(report.learning_rate);
    state_.sharded->publish();
  }

  ++state_.step;
  state_.tokens += sums.num_tokens;
  report.step = state_.step;
  report.tokens = state_.tokens;
  report.num_tokens = sums.num_tokens;
  report.loss = sums.loss_sum / static_cast<double>(sums.num_tokens);
  report.first_segment_loss =
      sums.first_segment_sum / static_cast<double>(sums.num_first_segment_tokens);
  report.rank_seconds = sums.rank_seconds;
  report.clock = sums.clock;
  must_stop_ = sums.wants_stop;  // what came later counts at the next step's end, if not alone
  must_save_ = sums.wants_checkpoint;
  report.seconds = seconds_since(start);
  return report;
}

/// A picture of the run is not worth the run.
void Trainer::write_trace() {
  world_->mesh().monitor().trace().stop();
  try {
    write_file_atomically(folder_.file(fmt::format("trace_rank_{:05}.json", world_->rank())),
                          world_->mesh().monitor().trace().to_json(world_->rank()),
                          ExitCode::kCheckpoint);
  } catch (const Error& error) {
    log_warning("the trace is not written: {}", error.what());
  }
}

/// Before the first step; later the ranks agree at each step's end.
bool Trainer::is_stop_requested_anywhere() {
  const auto all = world_->exchange().gather(signals_.stop_requested() ? "stop" : "");
  return std::find(all.begin(), all.end(), "stop") != all.end();
}

/// This rank's share of the batch, micro-batch by micro-batch; each loss is divided by the tokens
/// of the global batch, so their gradients add up.
BatchLoss Trainer::accumulate_gradients(StepReport& report) {
  const auto scale = 1.0 / static_cast<double>(tokens_per_step(config_));
  const std::vector<int64_t> indices = state_.cursor.take(config_.train.batch_sequences);
  latest_data_ = {indices.front(), indices.back() + 1};
  const int64_t share = config_.train.batch_sequences / world_->size();
  Trace& trace = world_->mesh().monitor().trace();
  BatchLoss total;
  for (int64_t done = 0; done < share;) {
    const auto waiting = std::chrono::steady_clock::now();
    const std::vector<Sequence> sequences = [&] {
      const Trace::Span span(trace, kComputeTrack, "data");
      return prefetcher_->next();
    }();
    report.data_seconds += seconds_since(waiting);
    done += static_cast<int64_t>(sequences.size());
    state_.sharded->begin_backward(/*is_last=*/done == share);
    BatchLoss loss = [&] {
      const Trace::Span span(trace, kComputeTrack, "forward");
      return compute_loss(state_.model, make_batch(sequences, world_->device()));
    }();
    {
      const Trace::Span span(trace, kComputeTrack, "backward");
      (loss.sum * scale).backward();
    }
    {
      const Trace::Span span(trace, kComputeTrack, "wait for gradients");
      state_.sharded->end_backward();
    }
    const torch::Tensor sum = loss.sum.detach().to(torch::kDouble);
    const torch::Tensor first_segment_sum = loss.first_segment_sum.to(torch::kDouble);
    total.sum = total.sum.defined() ? total.sum + sum : sum;
    total.first_segment_sum = total.first_segment_sum.defined()
                                  ? total.first_segment_sum + first_segment_sum
                                  : first_segment_sum;
    total.num_tokens += loss.num_tokens;
    total.num_first_segment_tokens += loss.num_first_segment_tokens;
    log_->observe(loss.routing);
  }
  if (log_->is_due(state_.step + 1)) {
    report.router_gradient_norms = router_gradient_norms(*state_.sharded, *world_);
  }
  return total;
}

/// Non-finite losses and spikes. @return false when the run has diverged
bool Trainer::handle_bad_day(const StepReport& report) {
  const double mean = state_.guard.mean(), deviation = state_.guard.deviation();
  switch (state_.guard.judge(report.loss, !report.is_skipped)) {
    case LossGuard::Verdict::kFine:
      return true;
    case LossGuard::Verdict::kSkipped:
      log_warning("step {}: loss or gradients are not finite, the step is skipped", report.step);
      return true;
    case LossGuard::Verdict::kDiverged:
      divergence_ = fmt::format("more than {} steps in a row were not finite",
                                config_.safety.max_skipped_steps);
      return false;
    case LossGuard::Verdict::kSpike:
      break;
  }
  log_warning("step {}: the loss spikes to {:.4f}, {:.1f} deviations above its recent mean {:.4f}",
              report.step, report.loss, (report.loss - mean) / deviation, mean);
  if (config_.safety.spike_action == SpikeAction::kLog) return true;
  if (static_cast<int64_t>(state_.cursor.skipped().size()) >= config_.safety.max_rollbacks) {
    divergence_ =
        fmt::format("the loss spiked again after {} rollbacks", config_.safety.max_rollbacks);
    return false;
  }
  roll_back(latest_data_);
  return true;
}

/// Goes back to the newest checkpoint (or the beginning), never to take the offending sequences
/// again.
void Trainer::roll_back(const SequenceCursor::Range& offending) {
  store_.wait();
  state_.cursor.skip(offending);
  if (world_->is_first()) {
    write_skipped(folder_.file("skipped_data.json"), state_.cursor.skipped());
  }
  const SequenceCursor cursor = state_.cursor;
  if (const auto content = store_.load_newest(what_is_mine())) {
    state_.restore(*content);
    callback_states_ = content->states;
  } else {
    callback_states_.clear();
    state_.release();
    state_ = TrainingState(config_, *world_);
    state_.cursor = cursor;
    state_.cursor.seek(0);
  }
  log_warning("rolled back to step {}; sequences {} to {} are left out from now on", state_.step,
              offending.first, offending.second - 1);
  start_reading();
  make_callbacks();
}

void Trainer::save(bool in_background) {
  require_replicas_agree(*state_.sharded, *world_);
  CheckpointContent content = state_.to_checkpoint();
  content.config_yaml = dump_run_config(config_);
  content.code_version = code_version_;
  content.data_fingerprint = to_hex(loader_.fingerprint());
  for (const auto& callback : callbacks_) {
    if (!callback->name().empty())
      content.states[kCallbackPrefix + callback->name()] = callback->state();
  }
  if (in_background) {
    store_.save_in_background(content);
  } else {
    store_.save(content);
  }
}

/// With ZeRO-3 the whole model has to fit on each rank for this; `lorikeet consolidate` makes the
/// same from a checkpoint without.
void Trainer::write_model() const {
  ModelDirectoryOptions options;
  options.tokenizer_path = dataset_.tokenizer_path();
  options.existing = ExistingFolder::kReplace;
  state_.sharded->while_gathered([&] {
    if (!world_->is_first()) return;
    write_model_directory(folder_.file("model"), state_.model->config(),
                          named_weights(*state_.model), options);
  });
}

/// A run that was asked to stop comes back from an earlier checkpoint if this one cannot be
/// written.
/// @return whether it is written
bool Trainer::save_last(RunState state) {
  try {
    save(/*in_background=*/false);
    return true;
  } catch (const Error& error) {
    if (state != RunState::kPreempted || error.code() != ExitCode::kCheckpoint) throw;
    log_error("the last checkpoint is not written: {}", error.what());
    log_error("the run goes on from the one before when it is started again");
    return false;
  }
}

RunResult Trainer::leave(RunState state, const std::string& message) {
  prefetcher_.reset();
  RunResult result{state, {}, false};
  if (world_->mesh().monitor().trace().is_on()) write_trace();  // ended within its steps
  const bool has_trained = !times_.to_text().empty();
  times_.measure("checkpoints", [&] { store_.wait(); });
  if (state == RunState::kDiverged) {
    log_error("the run has diverged at step {}: {}", state_.step, message);
  } else if (!was_finished_ && state_.step > 0) {  // step 0 follows from the configuration alone
    times_.measure("checkpoints", [&] { result.is_saved = save_last(state); });
  }
  if (state == RunState::kFinished) {
    times_.measure(TimeShares::kValidation, [&] {
      for (const auto& callback : callbacks_) callback->at_end(state_);
    });
    result.validation = validation_->latest();
    if (!was_finished_) times_.measure("writing the model", [&] { write_model(); });
  }
  if (has_trained) {
    log_info("time: {}; stalled {:.2f}%", times_.to_text(), 100 * times_.stall_share());
  }
  try {
    folder_.set_status({state, state_.step, last_step(), message});
  } catch (const Error& error) {  // the exit code must still say what became of the run
    if (state == RunState::kFinished) throw;
    log_error("{}", error.what());
  }
  return result;
}

}  // namespace lorikeet
