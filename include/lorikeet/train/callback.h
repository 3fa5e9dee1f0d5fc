#pragma once
#include <cstdint>
#include <map>
#include <string>

#include "lorikeet/train/routing_statistics.h"
#include "lorikeet/train/training_state.h"

namespace lorikeet {

/// What one optimizer step was.
struct StepReport {
  int64_t step = 0;               ///< taken, this one included
  int64_t tokens = 0;             ///< of the run so far
  int64_t num_tokens = 0;         ///< of this step
  double loss = 0;                ///< mean over the global batch, nats a token
  double first_segment_loss = 0;  ///< the same over first segments alone
  double grad_norm = 0;           ///< before clipping
  double learning_rate = 0;
  double seconds = 0;       ///< wall time
  double clock = 0;         ///< seconds since the first rank has set up: the same on all ranks
  double data_seconds = 0;  ///< of which waiting for data
  std::vector<double> rank_seconds = {};  ///< of each rank, until its gradients were there
  bool is_skipped = false;  ///< loss or gradients were not finite, and the optimizer did not move
  std::vector<double> router_gradient_norms;  ///< on logged steps
};

/// Before a callback's name in a checkpoint's states.
inline const std::string kCallbackPrefix = "callback.";

/// Something periodic. Anything that must survive a resume is in its state.
class Callback {
 public:
  virtual ~Callback() = default;
  virtual void after_step(const StepReport& report, TrainingState& state) = 0;
  /// Once, after the last step of the run.
  virtual void at_end(TrainingState&) {}
  /// Under this name state() lies in checkpoints; no name, no state.
  virtual std::string name() const { return ""; }
  /// Called on all ranks together; the first one's is saved, and loaded on all.
  virtual std::string state() { return "{}"; }
  virtual void load_state(const std::string& /*json*/) {}
};

}  // namespace lorikeet
