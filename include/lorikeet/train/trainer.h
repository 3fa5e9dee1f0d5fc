#pragma once
#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "lorikeet/checkpoint/checkpoint.h"
#include "lorikeet/data/batch_loader.h"
#include "lorikeet/data/prefetcher.h"
#include "lorikeet/parallel/world.h"
#include "lorikeet/train/batch_loss.h"
#include "lorikeet/train/callbacks.h"
#include "lorikeet/train/run_folder.h"
#include "lorikeet/train/signals.h"
#include "lorikeet/train/step_sums.h"
#include "lorikeet/train/time_shares.h"
#include "lorikeet/train/training_state.h"

namespace lorikeet {

struct TrainerOptions {
  std::string resume =
      "auto";  ///< auto: from the newest whole checkpoint, if any | never | path of a checkpoint
  bool allow_changed_data = false;
  std::string code_version;
  std::shared_ptr<World> world;  ///< null: this process alone, on train.device
};

struct RunResult {
  RunState state = RunState::kFinished;
  DomainLosses validation;  ///< after the last step; empty unless finished
  bool is_saved = false;    ///< whether a checkpoint of the last step lies there
};

/// One pretraining run, in OUTPUT/NAME. With several ranks each has a Trainer, and all do the same
/// in the same order; the first one writes what is not the ranks' own.
class Trainer {
 public:
  /// Opens data and folder, and builds or restores the state. @throws Error for everything a user
  /// can mend
  Trainer(const RunConfig& config, const TrainerOptions& options);

  /// Trains to the end, or until a signal (also one that came while data and model were opened) or
  /// divergence; leaves a checkpoint (but at step 0), status.json, and at the end
  /// OUTPUT/NAME/model. A run that had finished before is left as it is.
  RunResult run();

  const TrainingState& state() const { return state_; }
  const std::string& folder() const { return folder_.path(); }

 private:
  void open_data();
  void verify_data();
  void require_same_run();
  void resume(const TrainerOptions& options);
  void start_over();
  void go_on(const TrainerOptions& options);
  void restore(const CheckpointContent& content, const TrainerOptions& options);
  PieceFilter what_is_mine();
  void start_reading();
  void plan_anneal();
  void make_callbacks();

  RunResult train();
  int64_t progress() const;
  bool is_at_end() const { return progress() >= total_steps_; }
  int64_t last_step() const {
    return state_.step + std::max<int64_t>(0, total_steps_ - progress());
  }
  StepReport train_step();
  BatchLoss accumulate_gradients(StepReport& report);
  bool is_stop_requested_anywhere();
  bool handle_bad_day(const StepReport& report);
  void roll_back(const SequenceCursor::Range& offending);
  void save(bool in_background);
  bool save_last(RunState state);
  void write_model() const;
  void write_trace();
  RunResult leave(RunState state, const std::string& message = "");

  SignalWatch signals_;  // first: a request to stop counts from here on
  RunConfig config_;
  std::string code_version_;
  std::shared_ptr<World> world_;
  int64_t total_steps_, warmup_steps_;  // in the unit of progress()
  RunFolder folder_;
  Dataset dataset_;
  BatchLoader loader_;
  CheckpointStore store_;
  TrainingState state_;
  std::unique_ptr<Prefetcher> prefetcher_;
  double peak_flops_ = 0;
  std::unique_ptr<MetricsSink> sink_;
  PeriodClock checkpoint_clock_;
  std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
  TimeShares times_;
  LogCallback* log_ = nullptr;                // owned by callbacks_
  ValidationCallback* validation_ = nullptr;  // owned by callbacks_
  std::vector<std::unique_ptr<Callback>> callbacks_;
  std::map<std::string, std::string> callback_states_;  // from the checkpoint
  SequenceCursor::Range latest_data_;                   // sequences of the latest step
  std::string divergence_;
  bool must_stop_ = false, must_save_ = false;  // asked of any rank, agreed by all
  bool was_finished_ = false;  // at its end already, with a model, when it was started
};

}  // namespace lorikeet
