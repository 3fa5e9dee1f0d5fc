#include "lorikeet/train/agreement.h"

#include <fmt/format.h>
#include <torch/torch.h>

#include "lorikeet/core/error.h"

namespace lorikeet {

namespace {

/// @param what  "parameters"
/// @param are_same  of a rank and the first that holds the same
template <class AreSame>
void require_twins(const char* what, const World& world, const MeshShape& shape,
                   const AreSame& are_same) {
  for (int64_t rank = shape.shard; rank < world.size(); ++rank) {
    const int64_t twin = rank % shape.shard;
    if (are_same(rank, twin)) continue;
    throw Error(
        ExitCode::kCommunication,
        fmt::format("the {} of rank {} are no longer those of rank {}, which holds the same", what,
                    rank, twin),
        "memory or network of one of the two nodes is at fault; the run goes on from its "
        "newest checkpoint, in which they agreed, when it is started again");
  }
}

}  // namespace

void require_same_gradients(const torch::Tensor& squares_PK, World& world) {
  const MeshShape& shape = world.mesh().shape();
  if (shape.replicate == 1) return;
  // Bit for bit: what is not a number is the same too where both are.
  const torch::Tensor bits = squares_PK.contiguous().view(torch::kLong);
  require_twins("gradients", world, shape, [&](int64_t rank, int64_t twin) {
    return bits[rank].equal(bits[twin]) || (squares_PK[rank].isnan().any().item<bool>() &&
                                            squares_PK[twin].isnan().any().item<bool>());
  });
}

void require_replicas_agree(const ShardedParameters& parameters, World& world) {
  const MeshShape& shape = world.mesh().shape();
  if (shape.replicate == 1) return;
  const torch::NoGradGuard no_grad;
  // Of the bits as whole numbers, so that the order of the sum does not matter.
  torch::Tensor checksum =
      torch::zeros({1}, torch::TensorOptions(torch::kLong).device(world.device()));
  for (const OptimizerTensor& tensor : parameters.optimizer_tensors()) {
    checksum += tensor.values.detach().view(torch::kInt).sum(torch::kLong);
  }
  torch::Tensor all = torch::empty({world.size()}, checksum.options());
  world.mesh().world().all_gather(all, checksum, "checksums");
  all = all.cpu();
  require_twins("parameters", world, shape, [&](int64_t rank, int64_t twin) {
    return all[rank].item<int64_t>() == all[twin].item<int64_t>();
  });
}

}  // namespace lorikeet
