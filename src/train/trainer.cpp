// The training loop. How a run is set up and resumed is in trainer_setup.cpp.
#include "lorikeet/train/trainer.h"

#include <fmt/format.h>

#include <chrono>
#include <exception>
#include <optional>
#include <string>

#include "lorikeet/config/load.h"
#include "lorikeet/core/error.h"
#include "lorikeet/core/hash.h"
#include "lorikeet/core/log.h"
#include "lorikeet/model/load.h"
#include "lorikeet/optim/clip.h"
#include "lorikeet/optim/schedule.h"
#include "lorikeet/train/batch_loss.h"

namespace lorikeet {

namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

RunResult Trainer::run() {
  try {
    return train();
  } catch (const std::exception& failure) {
    const std::string what = failure.what();  // LibTorch appends a backtrace
    try {
      folder_.set_status(
          {RunState::kFailed, state_.step, total_steps_, what.substr(0, what.find('\n'))});
    } catch (const Error& error) {
      log_error("{}", error.what());
    }
    throw;
  }
}

RunResult Trainer::train() {
  if (was_finished_) return leave(RunState::kFinished);
  folder_.set_status({RunState::kRunning, state_.step, total_steps_, ""});
  if (signals_.stop_requested()) return leave(RunState::kPreempted);
  while (state_.step < total_steps_) {
    if (state_.is_dense_warmup() && state_.step >= warmup_steps_) {
      state_.end_dense_warmup();
      log_info("step {}: dense warm-up ends, {} experts are copied from each dense layer",
               state_.step, config_.model.feed_forward.num_experts);
    }
    const StepReport report = train_step();
    for (const auto& callback : callbacks_) callback->after_step(report, state_);
    if (!handle_bad_day(report)) return leave(RunState::kDiverged, divergence_);
    const bool is_due = checkpoint_clock_.is_due(state_.step);
    if (signals_.take_checkpoint_request() || (is_due && state_.step < total_steps_)) save(true);
    if (signals_.stop_requested()) return leave(RunState::kPreempted);
  }
  return leave(RunState::kFinished);
}

/// Forward, backward, clip, optimise; the gradients are those of the global batch's mean loss.
StepReport Trainer::train_step() {
  const auto start = std::chrono::steady_clock::now();
  StepReport report;
  report.learning_rate =
      learning_rate(config_.schedule, state_.step, total_steps_, tokens_per_step(config_));

  const BatchLoss loss = accumulate_gradients(report);
  std::vector<torch::Tensor> parameters = state_.model->parameters();
  const torch::Tensor norm = clip_gradients_without_sync(parameters, config_.optimizer.clip_norm);
  const torch::Tensor is_bad = ((loss.sum + norm).isfinite().logical_not()).to(torch::kFloat32);
  state_.optimizer->step(report.learning_rate, is_bad);
  state_.optimizer->zero_grad();

  ++state_.step;
  state_.tokens += loss.num_tokens;
  report.step = state_.step;
  report.tokens = state_.tokens;
  report.num_tokens = loss.num_tokens;
  report.loss = loss.sum.item<double>() / static_cast<double>(loss.num_tokens);
  report.first_segment_loss =
      loss.first_segment_sum.item<double>() / static_cast<double>(loss.num_first_segment_tokens);
  report.grad_norm = norm.item<double>();
  report.is_skipped = is_bad.item<float>() != 0;
  report.seconds = seconds_since(start);
  return report;
}

/// Micro-batch by micro-batch; each loss is divided by the tokens of the global batch, so their
/// gradients add up.
BatchLoss Trainer::accumulate_gradients(StepReport& report) {
  const auto scale = 1.0 / static_cast<double>(tokens_per_step(config_));
  const int64_t batch = config_.train.batch_sequences;
  const std::vector<int64_t> indices = state_.cursor.take(batch);
  latest_data_ = {indices.front(), indices.back() + 1};
  BatchLoss total;
  for (int64_t done = 0; done < batch;) {
    const auto waiting = std::chrono::steady_clock::now();
    const std::vector<Sequence> sequences = prefetcher_->next();
    report.data_seconds += seconds_since(waiting);
    BatchLoss loss = compute_loss(state_.model, make_batch(sequences, device_));
    (loss.sum * scale).backward();
    const torch::Tensor sum = loss.sum.detach();
    total.sum = total.sum.defined() ? total.sum + sum : sum;
    total.first_segment_sum = total.first_segment_sum.defined()
                                  ? total.first_segment_sum + loss.first_segment_sum
                                  : loss.first_segment_sum;
    total.num_tokens += loss.num_tokens;
    total.num_first_segment_tokens += loss.num_first_segment_tokens;
    log_->observe(loss.routing);
    done += static_cast<int64_t>(sequences.size());
  }
  if (log_->is_due(state_.step + 1)) {
    report.router_gradient_norms = router_gradient_norms(*state_.model);
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
  write_skipped(folder_.file("skipped_data.json"), state_.cursor.skipped());
  const SequenceCursor cursor = state_.cursor;
  if (const auto content = store_.load_newest()) {
    state_.restore(*content);
    callback_states_ = content->states;
  } else {
    callback_states_.clear();
    state_ = TrainingState(config_, device_);
    state_.cursor = cursor;
    state_.cursor.seek(0);
  }
  log_warning("rolled back to step {}; sequences {} to {} are left out from now on", state_.step,
              offending.first, offending.second - 1);
  start_reading();
  make_callbacks();
}

void Trainer::save(bool in_background) {
  CheckpointContent content = state_.to_checkpoint();
  content.config_yaml = dump_run_config(config_);
  content.code_version = code_version_;
  content.data_fingerprint = to_hex(dataset_.fingerprint());
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

void Trainer::write_model() const {
  ModelDirectoryOptions options;
  options.tokenizer_path = dataset_.tokenizer_path();
  options.existing = ExistingFolder::kReplace;
  write_model_directory(folder_.file("model"), state_.model->config(), named_weights(*state_.model),
                        options);
}

RunResult Trainer::leave(RunState state, const std::string& message) {
  prefetcher_.reset();
  RunResult result{state, {}};
  store_.wait();
  if (state == RunState::kDiverged) {
    log_error("the run has diverged at step {}: {}", state_.step, message);
  } else if (!was_finished_ && state_.step > 0) {  // step 0 follows from the configuration alone
    save(/*in_background=*/false);
  }
  if (state == RunState::kFinished) {
    for (const auto& callback : callbacks_) callback->at_end(state_);
    result.validation = validation_->latest();
    if (!was_finished_) write_model();
  }
  folder_.set_status({state, state_.step, total_steps_, message});
  return result;
}

}  // namespace lorikeet
