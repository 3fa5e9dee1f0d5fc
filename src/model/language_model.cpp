#include "lorikeet/model/language_model.h"

#include <ATen/record_function.h>
#include <torch/torch.h>

#include "lorikeet/model/recompute.h"
#include "lorikeet/ops/linear.h"

namespace lorikeet {

BlockImpl::BlockImpl(const ModelConfig& config, const torch::TensorOptions& options) {
  const auto norm = [&] { return RmsNorm(config.hidden_size, config, options); };
  input_layernorm_ = register_module("input_layernorm", norm());
  self_attn_ = register_module("self_attn", Attention(config, options));
  post_attention_layernorm_ = register_module("post_attention_layernorm", norm());
  mlp_ = register_module("mlp", make_feed_forward(config, options));
}

torch::Tensor BlockImpl::attend(const torch::Tensor& x_BLD, const SequenceLayout& layout) {
  RECORD_USER_SCOPE("attention");
  return x_BLD + self_attn_(input_layernorm_(x_BLD), layout);
}

FeedForwardOutput BlockImpl::feed_forward(const torch::Tensor& x_BLD,
                                          const SequenceLayout& layout) {
  RECORD_USER_SCOPE("feed_forward");
  FeedForwardOutput output = mlp_->forward(post_attention_layernorm_(x_BLD), layout);
  output.y_BLD = x_BLD + output.y_BLD;
  return output;
}

FeedForwardOutput BlockImpl::forward(const torch::Tensor& x_BLD,
                                     const std::shared_ptr<const SequenceLayout>& layout,
                                     ActivationCheckpointing checkpointing) {
  using enum ActivationCheckpointing;
  // The bodies share the layout's ownership: they run again when the caller's is gone.
  const auto attend_part = [this, layout](const torch::Tensor& x) -> RecomputeOutput {
    return {attend(x, *layout), {}};
  };
  const auto feed_forward_part = [this, layout](const torch::Tensor& x) -> RecomputeOutput {
    const FeedForwardOutput output = feed_forward(x, *layout);
    return {output.y_BLD, output.routing.weights_GE};
  };
  const auto block = [=](const torch::Tensor& x) { return feed_forward_part(attend_part(x).y); };
  const auto leaves = [](const torch::nn::Module& norm, const torch::nn::Module& part) {
    std::vector<torch::Tensor> all = norm.parameters();
    for (const auto& parameter : part.parameters()) all.push_back(parameter);
    return all;
  };
  if (checkpointing == kBlock) {
    const RecomputeOutput output = recompute(block, x_BLD, parameters());
    return {output.y, {output.record}};
  }
  const torch::Tensor attended_BLD =
      checkpointing == kAttention
          ? recompute(attend_part, x_BLD, leaves(*input_layernorm_, *self_attn_)).y
          : attend(x_BLD, *layout);
  const RecomputeOutput output =
      checkpointing == kFfn
          ? recompute(feed_forward_part, attended_BLD, leaves(*post_attention_layernorm_, *mlp_))
          : feed_forward_part(attended_BLD);
  return {output.y, {output.record}};
}

LayerState BlockImpl::start_sequence(GenerationRouting routing) const {
  return {{}, mlp_->start_sequence(routing)};
}

torch::Tensor BlockImpl::extend(const torch::Tensor& x_BLD, const SequenceLayout& layout,
                                LayerState& state) {
  const torch::Tensor attended_BLD =
      x_BLD + self_attn_->extend(input_layernorm_(x_BLD), layout.rope, state.cache);
  return attended_BLD +
         mlp_->extend(post_attention_layernorm_(attended_BLD), layout, state.feed_forward.get());
}

DecoderImpl::DecoderImpl(const ModelConfig& config, const torch::TensorOptions& options) {
  embed_tokens =
      register_module("embed_tokens", Embedding(config.vocab_size, config.hidden_size, options));
  const auto list = register_module("layers", torch::nn::ModuleList());
  for (int64_t i = 0; i < config.num_layers; ++i) {
    layers.emplace_back(config, options);
    list->push_back(layers.back());
  }
  norm = register_module("norm", RmsNorm(config.hidden_size, config, options));
}

LanguageModelImpl::LanguageModelImpl(const ModelConfig& config, const torch::TensorOptions& options)
    : config_(config), compute_dtype_(torch::typeMetaToScalarType(options.dtype())) {
  model_ = register_module("model", Decoder(config, options));
  if (!config.tie_embeddings) {
    lm_head_ =
        register_module("lm_head", Linear(config.hidden_size, config.vocab_size, config, options));
  }
}

ModelOutput LanguageModelImpl::forward(const torch::Tensor& ids_BL,
                                       const std::vector<DocumentLengths>& documents) {
  const auto layout = std::make_shared<const SequenceLayout>(
      make_sequence_layout(config_, ids_BL.size(0), ids_BL.size(1), documents, ids_BL.device()));
  ModelOutput output;
  const auto before = [&](int64_t unit) {
    if (schedule_) schedule_->before_forward(unit);
  };
  const auto after = [&](int64_t unit, const torch::Tensor& result) {
    if (schedule_) schedule_->after_forward(unit, result);
  };
  before(0);
  torch::Tensor x_BLD = model_->embed_tokens(ids_BL).to(compute_dtype_);
  after(0, x_BLD);
  int64_t unit = 0;
  for (Block& block : model_->layers) {
    before(++unit);
    FeedForwardOutput layer = block(x_BLD, layout, checkpointing_);
    x_BLD = std::move(layer.y_BLD);
    after(unit, x_BLD);
    output.routing.push_back(std::move(layer.routing));
  }
  if (config_.tie_embeddings) {  // the norm belongs to the embedding's unit, which is there still
    output.hidden_BLD = model_->norm(x_BLD);
  } else {
    before(++unit);
    output.hidden_BLD = model_->norm(x_BLD);
    after(unit, output.hidden_BLD);
  }
  output.segments = layout->segments;
  return output;
}

torch::Tensor LanguageModelImpl::logits(const torch::Tensor& hidden) {
  return ops::linear(hidden, head_weight(), config_.feed_forward.kernel == Kernel::kReference);
}

ops::CrossEntropy LanguageModelImpl::cross_entropy(const torch::Tensor& hidden_ND,
                                                   const torch::Tensor& targets_N) {
  return ops::linear_cross_entropy(hidden_ND, head_weight(), targets_N,
                                   config_.feed_forward.kernel == Kernel::kReference);
}

const torch::Tensor& LanguageModelImpl::head_weight() const {
  return lm_head_ ? lm_head_->weight : model_->embed_tokens->weight;
}

SequenceState LanguageModelImpl::start_sequence(GenerationRouting routing) const {
  SequenceState state;
  for (const Block& block : model_->layers) state.layers.push_back(block->start_sequence(routing));
  return state;
}

torch::Tensor LanguageModelImpl::extend(const torch::Tensor& ids_BL, SequenceState& state) {
  const int64_t L = ids_BL.size(1);
  TORCH_CHECK(ids_BL.size(0) == 1 && (L == 1 || state.length == 0), "extend: ids of shape ",
              ids_BL.sizes(), " after ", state.length, " tokens");
  const torch::NoGradGuard no_grad;
  SequenceLayout layout = make_sequence_layout(config_, 1, L, {}, ids_BL.device());
  if (state.length > 0) {
    layout.positions_L += state.length;
    layout.rope = ops::make_rope_table(layout.positions_L, config_.head_size(), config_.rope_theta);
  }
  torch::Tensor x_BLD = model_->embed_tokens(ids_BL).to(compute_dtype_);
  for (size_t i = 0; i < model_->layers.size(); ++i) {
    x_BLD = model_->layers[i]->extend(x_BLD, layout, state.layers[i]);
  }
  state.length += L;
  return model_->norm(x_BLD);
}

torch::Device LanguageModelImpl::device() const { return model_->embed_tokens->weight.device(); }

}  // namespace lorikeet
