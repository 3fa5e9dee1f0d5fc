#pragma once
#include <torch/torch.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "checklist.h"
#include "lorikeet/analysis/plan.h"

/// The parts of preflight(), apart for the tests. D model, F feed-forward width, E experts.
namespace lorikeet {

/// Program, configuration and data are those of rank 0, and the data fits the model.
/// @return whether they are: without, the ranks would wait for each other in what follows
bool check_agreement(Checklist& list, const RunConfig& config, World& world,
                     const std::string& code_version);

/// An operator on `device` against the CPU's reference in fp64.
struct OperatorError {
  std::string name, dtype;
  double error;  ///< |actual - expected| / |expected|, the largest of the result and all gradients
};
/// Every operator of ours that has more than one implementation or runs in reduced precision,
/// forward and backward, in fp32 and bf16, in shapes after the model's, no larger than a second or
/// two of the CPU.
std::vector<OperatorError> operator_errors(const ModelConfig& model, torch::Device device);
/// E, D and F that it takes the merged operators with: as many experts, widths as divisible by 8.
std::vector<int64_t> operator_widths(const ModelConfig& model);
void check_operators(Checklist& list, const ModelConfig& model, torch::Device device);

/// The first step of a small model: one layer of the configuration's, one sequence of two segments,
/// clipped, by AdamW with the schedule's highest rate.
struct FirstStep {
  double loss = 0, next_loss = 0;   ///< mean, nats a token, before and after it
  torch::Tensor gradients, change;  ///< [parameters], fp32, on the CPU; change: of the weights
};
FirstStep first_step(const RunConfig& config, torch::Device device);
/// How far two are apart: losses in nats, the others |difference| / |expected|.
struct StepDistance {
  double loss, gradients, change;
};
StepDistance distance_of(const FirstStep& actual, const FirstStep& expected);
/// What is allowed between devices.
StepDistance step_tolerance(Precision precision);
void check_first_step(Checklist& list, const RunConfig& config, torch::Device device);

/// The collectives of training along each axis of the layout: sums are right, and how fast.
void check_collectives(Checklist& list, const RunConfig& config, World& world,
                       const PreflightLimits& limits);

/// Where checkpoints go: rate, and room for as many as the run keeps.
/// @return whether there is room
bool check_storage(Checklist& list, const RunConfig& config, World& world,
                   const PreflightLimits& limits);
/// Bytes on disk at the height of a run, from an empty folder: checkpoints kept, one more that is
/// being written, and the model at the end; or of the trial before it, which has three checkpoints.
int64_t storage_needed(const RunConfig& config, const RunPlan& plan);

/// What a short run of the configuration in child processes did.
struct Trial {
  std::string failure = {};  ///< empty, or what went wrong first
  int64_t resumed_at = 0, killed_at = 0;
  double largest_difference = 0;  ///< of the losses of the steps that were taken twice
  double tokens_per_second = 0;   ///< of the median step
  int64_t peak_memory = 0;        ///< bytes of the first rank, with its first step
};
/// Starts the run on all ranks, kills it with SIGKILL a step or more after its first checkpoint,
/// and starts it again until it has come as far.
/// @return the same on all ranks
/// @throws Error(kPreempted) on all ranks where one was asked to stop, Error(kCommunication) where
/// one is lost
Trial run_trial(const RunConfig& config, Exchange& ranks, const PreflightOptions& options);
/// The configuration with every step logged, a checkpoint every few steps, and no end in sight;
/// without dense warm-up, so that the first step is one of the merged model.
/// @param name  of a folder in `output` and in `checkpoint.local` that takes all that it writes
RunConfig trial_config(const RunConfig& config, const std::string& name);
/// @param config  on the device that it ran on
void check_trial(Checklist& list, const Trial& trial, const RunConfig& config, const RunPlan& plan,
                 const PreflightLimits& limits);

}  // namespace lorikeet
