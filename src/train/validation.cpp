#include "lorikeet/train/validation.h"

#include <algorithm>

#include "lorikeet/train/batch_loss.h"

namespace lorikeet {

namespace {

double domain_loss(LanguageModel& model, const ValidationSet& set, size_t domain,
                   int64_t micro_batch) {
  double sum = 0;
  int64_t tokens = 0;
  const int64_t count = set.num_contexts(domain);
  for (int64_t begin = 0; begin < count; begin += micro_batch) {
    std::vector<Sequence> contexts;
    for (int64_t i = begin; i < std::min(begin + micro_batch, count); ++i) {
      contexts.push_back(set.get(domain, i));
    }
    const BatchLoss loss = compute_loss(model, make_batch(contexts, model->device()));
    sum += loss.sum.item<double>();
    tokens += loss.num_tokens;
  }
  return sum / static_cast<double>(tokens);
}

}  // namespace

DomainLosses validate(LanguageModel& model, const ValidationSet& set, int64_t micro_batch) {
  const torch::NoGradGuard no_grad;
  const bool was_training = model->is_training();
  model->eval();
  DomainLosses losses;
  double sum = 0;
  for (size_t domain = 0; domain < set.num_domains(); ++domain) {
    losses.emplace_back(set.domain_name(domain), domain_loss(model, set, domain, micro_batch));
    sum += losses.back().second;
  }
  if (!losses.empty()) losses.emplace_back("mean", sum / static_cast<double>(losses.size()));
  model->train(was_training);
  return losses;
}

}  // namespace lorikeet
