#pragma once
#include <torch/torch.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "lorikeet/checkpoint/checkpoint.h"
#include "lorikeet/config/run_config.h"
#include "lorikeet/model/language_model.h"
#include "lorikeet/optim/adamw.h"
#include "lorikeet/parallel/sharded_parameters.h"
#include "lorikeet/parallel/world.h"
#include "lorikeet/train/loss_guard.h"
#include "lorikeet/train/sequence_cursor.h"

namespace lorikeet {

/// All that training changes from step to step, and all that a checkpoint must bring back.
class TrainingState {
 public:
  /// A run at its beginning: parameters from (seed, name); dense while the dense warm-up lasts.
  /// Over the ranks of `world`, which must outlive it.
  TrainingState(const RunConfig& config, World& world);

  LanguageModel model{nullptr};
  std::unique_ptr<ShardedParameters> sharded;  ///< the model's parameters
  std::unique_ptr<AdamW> optimizer;            ///< over this rank's part of them
  SequenceCursor cursor;
  LossGuard guard;
  int64_t step = 0;  ///< taken so far
  int64_t tokens = 0;
  int64_t reshuffled_at = -1;  ///< the final anneal's first sequence; -1: not planned yet

  bool is_dense_warmup() const { return is_dense_warmup_; }
  /// Ends the dense warm-up: every dense layer is copied into all experts (Lory, section 4.1). The
  /// optimizer's state starts anew, or is copied like the weights, by train.dense_warmup_optimizer;
  /// a router's starts anew either way.
  void end_dense_warmup();

  /// This rank's pieces; the parameters' and moments' memory is shared, not copied. `config_yaml`,
  /// versions and fingerprint are the caller's.
  CheckpointContent to_checkpoint() const;
  /// Whether restore() needs this piece of a checkpoint's tensors; see PieceFilter. A model of the
  /// other phase takes the place of this one.
  bool wants(const CheckpointContent& head, const std::string& name, int64_t begin, int64_t numel);
  /// @throws Error(kCheckpoint) where the content is of another model
  void restore(const CheckpointContent& content);
  /// Gives the memory of model and optimizer back, before others take their place.
  void release();

 private:
  void build(bool is_dense_warmup, const ShardedParameters::Fill& fill);
  void copy_moments(ShardedParameters& dense, AdamW& dense_optimizer);
  void restore_optimizer(const CheckpointContent& content);

  RunConfig config_;
  World* world_;
  bool is_dense_warmup_ = false;
  std::map<std::string, std::vector<std::pair<int64_t, int64_t>>> wanted_;  ///< [first, last)
};

/// Whether the model in it is the dense one of the warm-up.
/// @throws Error(kCheckpoint) where it is no checkpoint of a training run
bool is_of_dense_warmup(const CheckpointContent& content);

/// Steps that train the dense model before its layers are copied into experts; 0 without a dense
/// warm-up.
int64_t dense_warmup_steps(const RunConfig& config);

}  // namespace lorikeet
