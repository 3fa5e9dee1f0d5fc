#include "lorikeet/train/validation.h"

#include <algorithm>

#include "lorikeet/train/batch_loss.h"

namespace lorikeet {

namespace {

std::vector<Sequence> contexts_of(const ValidationSet& set, size_t domain, int64_t begin,
                                  int64_t end) {
  std::vector<Sequence> contexts;
  for (int64_t i = begin; i < end; ++i) contexts.push_back(set.get(domain, i));
  return contexts;
}

/// Micro-batches go to the ranks in turn. Where they are no multiple, the ranks that are left over
/// compute the last one again, since sharded parameters need all ranks in every forward pass.
double domain_loss(LanguageModel& model, const ValidationSet& set, size_t domain,
                   int64_t micro_batch, World& world) {
  const int64_t count = set.num_contexts(domain), size = world.size();
  const int64_t num_batches = (count + micro_batch - 1) / micro_batch;
  const int64_t rounds = (num_batches + size - 1) / size;
  torch::Tensor sums = torch::zeros({rounds * size, 2}, torch::kDouble);
  int64_t tokens = 0;
  for (int64_t round = 0; round < rounds; ++round) {
    const int64_t mine = round * size + world.rank();
    const int64_t batch = std::min(mine, num_batches - 1), begin = batch * micro_batch;
    const BatchLoss loss = compute_loss(
        model, make_batch(contexts_of(set, domain, begin, std::min(begin + micro_batch, count)),
                          world.device()));
    if (mine != batch) continue;
    sums[mine][0] = loss.sum.item<double>();
    sums[mine][1] = static_cast<double>(loss.num_tokens);
  }
  // Each number is of one rank alone, so the sum over ranks is exact.
  torch::Tensor all = sums.to(world.device());
  world.mesh().world().all_reduce(all, "validation");
  all = all.cpu();
  double sum = 0;
  for (int64_t batch = 0; batch < num_batches; ++batch) {
    sum += all[batch][0].item<double>();
    tokens += all[batch][1].item<int64_t>();
  }
  return sum / static_cast<double>(tokens);
}

}  // namespace

DomainLosses validate(LanguageModel& model, const ValidationSet& set, int64_t micro_batch,
                      World& world) {
  const torch::NoGradGuard no_grad;
  const bool was_training = model->is_training();
  model->eval();
  DomainLosses losses;
  double sum = 0;
  for (size_t domain = 0; domain < set.num_domains(); ++domain) {
    losses.emplace_back(set.domain_name(domain),
                        domain_loss(model, set, domain, micro_batch, world));
    sum += losses.back().second;
  }
  if (!losses.empty()) losses.emplace_back("mean", sum / static_cast<double>(losses.size()));
  model->train(was_training);
  return losses;
}

}  // namespace lorikeet
