#pragma once
#include <torch/torch.h>

#include <cstdint>
#include <memory>

#include "lorikeet/checkpoint/checkpoint.h"
#include "lorikeet/config/run_config.h"
#include "lorikeet/model/language_model.h"
#include "lorikeet/optim/adamw.h"
#include "lorikeet/train/loss_guard.h"
#include "lorikeet/train/sequence_cursor.h"

namespace lorikeet {

/// All that training changes from step to step, and all that a checkpoint must bring back.
class TrainingState {
 public:
  /// A run at its beginning: parameters from (seed, name); dense while the dense warm-up lasts.
  TrainingState(const RunConfig& config, torch::Device device);

  LanguageModel model{nullptr};
  std::unique_ptr<AdamW> optimizer;
  SequenceCursor cursor;
  LossGuard guard;
  int64_t step = 0;  ///< taken so far
  int64_t tokens = 0;

  bool is_dense_warmup() const { return is_dense_warmup_; }
  /// Ends the dense warm-up: every dense layer is copied into all experts (Lory, section 4.1). The
  /// optimizer's state starts anew, or is copied like the weights, by train.dense_warmup_optimizer;
  /// a router's starts anew either way.
  void end_dense_warmup();

  /// The parameters' and moments' memory is shared, not copied. `config_yaml`, versions and
  /// fingerprint are the caller's.
  CheckpointContent to_checkpoint() const;
  /// @throws Error(kCheckpoint) where the content is of another model
  void restore(const CheckpointContent& content);

 private:
  void build(bool is_dense_warmup);

  RunConfig config_;
  torch::Device device_;
  bool is_dense_warmup_ = false;
};

/// Steps that train the dense model before its layers are copied into experts; 0 without a dense
/// warm-up.
int64_t dense_warmup_steps(const RunConfig& config);

}  // namespace lorikeet
