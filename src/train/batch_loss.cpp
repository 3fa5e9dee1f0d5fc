// B sequences, L tokens in each.
#include "lorikeet/train/batch_loss.h"

#include <ATen/record_function.h>

#include <algorithm>

#include "lorikeet/ops/to_device.h"

namespace lorikeet {

namespace {

/// [B*L] bool on the CPU: tokens of first segments. Dense and sequence-routed models count the
/// tokens that a merged model with the same segment length would.
torch::Tensor first_segment_mask(const ModelConfig& config, const TokenBatch& batch) {
  FeedForwardConfig segments = config.feed_forward;
  segments.routing = Routing::kCausalSegment;
  const SegmentLayout layout = make_segment_layout(segments, batch.inputs_BL.size(0),
                                                   batch.inputs_BL.size(1), batch.documents);
  torch::Tensor mask = torch::zeros({batch.num_tokens()}, torch::kBool);
  for (int64_t g = 0; g < layout.num_segments(); ++g) {
    if (layout.is_first[g]) mask.slice(0, layout.offsets[g], layout.offsets[g + 1]).fill_(true);
  }
  return mask;
}

}  // namespace

TokenBatch make_batch(const std::vector<Sequence>& sequences, torch::Device device) {
  const auto B = static_cast<int64_t>(sequences.size());
  const auto tokens = static_cast<int64_t>(sequences.at(0).tokens.size());
  torch::Tensor ids = torch::empty({B, tokens}, torch::kLong);
  TokenBatch batch;
  for (int64_t b = 0; b < B; ++b) {
    const Sequence& sequence = sequences[b];
    TORCH_CHECK(static_cast<int64_t>(sequence.tokens.size()) == tokens, "sequences of two lengths");
    std::copy(sequence.tokens.begin(), sequence.tokens.end(), ids[b].data_ptr<int64_t>());
    batch.documents.emplace_back(sequence.document_lengths.begin(),
                                 sequence.document_lengths.end());
  }
  ids = ops::to_device(ids, device);
  batch.inputs_BL = ids.narrow(1, 0, tokens - 1);
  batch.targets_BL = ids.narrow(1, 1, tokens - 1);
  return batch;
}

BatchLoss compute_loss(LanguageModel& model, const TokenBatch& batch) {
  ModelOutput output = model->forward(batch.inputs_BL, batch.documents);
  const ops::CrossEntropy losses = [&] {
    RECORD_USER_SCOPE("head");
    return model->cross_entropy(output.hidden_BLD.flatten(0, 1), batch.targets_BL.flatten());
  }();
  const torch::Tensor mask = first_segment_mask(model->config(), batch);
  BatchLoss loss;
  loss.sum = losses.sum;
  loss.num_tokens = batch.num_tokens();
  loss.num_first_segment_tokens = mask.sum().item<int64_t>();
  const torch::Tensor on_device = ops::to_device(mask, losses.losses_N.device());
  loss.first_segment_sum = torch::where(on_device, losses.losses_N, 0).sum();
  loss.routing = std::move(output.routing);
  return loss;
}

}  // namespace lorikeet
