// P ranks, K numbers a rank.
#include "lorikeet/train/step_sums.h"

#include "lorikeet/ops/to_device.h"
#include "lorikeet/optim/clip.h"
#include "lorikeet/train/agreement.h"

namespace lorikeet {

namespace {

enum Column : int64_t {
  kLoss,  // from here on made by the device
  kFirstSegment,
  kSquares,
  kSquaresLow,
  kTokens,  // from here on by the host
  kFirstSegmentTokens,
  kSeconds,
  kClock,
  kStop,
  kCheckpoint,
  kColumns
};

}  // namespace

StepSums add_over_ranks(const StepShare& share, World& world) {
  const torch::NoGradGuard no_grad;
  const BatchLoss& loss = share.loss;
  const auto device = world.device();
  const torch::Tensor from_host =
      torch::tensor({static_cast<double>(loss.num_tokens),
                     static_cast<double>(loss.num_first_segment_tokens), share.seconds, share.clock,
                     share.wants_stop ? 1.0 : 0.0, share.wants_checkpoint ? 1.0 : 0.0},
                    torch::kDouble);
  const torch::Tensor mine =
      torch::cat({torch::stack({loss.sum, loss.first_segment_sum}).to(torch::kDouble),
                  ops::to_device(share.squares_2, device), ops::to_device(from_host, device)});
  torch::Tensor all_PK = torch::empty({world.size() * kColumns}, mine.options());
  world.mesh().world().all_gather(all_PK, mine, "step");
  // The one time in a step that the host waits for the device: whether the step counts, its loss
  // and norm, and what the ranks ask of each other decide what the host does next.
  all_PK = all_PK.cpu().view({world.size(), kColumns});

  require_same_gradients(all_PK.slice(1, kSquares, kSquares + 2), world);
  StepSums sums;
  const auto all = all_PK.accessor<double, 2>();
  for (int64_t rank = 0; rank < world.size(); ++rank) {
    sums.loss_sum += all[rank][kLoss];
    sums.first_segment_sum += all[rank][kFirstSegment];
    sums.num_tokens += static_cast<int64_t>(all[rank][kTokens]);
    sums.num_first_segment_tokens += static_cast<int64_t>(all[rank][kFirstSegmentTokens]);
    sums.wants_stop |= all[rank][kStop] != 0;
    sums.wants_checkpoint |= all[rank][kCheckpoint] != 0;
    sums.rank_seconds.push_back(all[rank][kSeconds]);
  }
  sums.clock = all[0][kClock];
  // Replicas hold the same gradients: those of the first shard group are all.
  sums.norm = norm_of(
      all_PK.slice(0, 0, world.mesh().shape().shard).slice(1, kSquares, kSquares + 2).contiguous());
  return sums;
}

}  // namespace lorikeet
