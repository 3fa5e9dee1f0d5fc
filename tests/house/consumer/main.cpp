// Another project's program: finds Lorikeet with find_package, makes a small merged model and runs
// it.
#include <lorikeet/core/version.h>
#include <lorikeet/model/language_model.h>
#include <torch/torch.h>

#include <iostream>

int main() {
  lorikeet::ModelConfig config{.hidden_size = 32, .num_layers = 2, .num_heads = 2, .ffn_size = 48};
  config.vocab_size = 64;
  config.context_length = 16;
  config.feed_forward = {.kind = lorikeet::FeedForwardKind::kMerged, .num_experts = 2};
  config.feed_forward.segment_length = 8;
  lorikeet::LanguageModel model(config);
  const torch::NoGradGuard no_grad;
  for (torch::Tensor& parameter : model->parameters()) parameter.normal_(0, 0.1);
  const auto output = model->forward(torch::randint(64, {1, 16}));
  const bool is_right = output.hidden_BLD.isfinite().all().item<bool>() &&
                        output.hidden_BLD.sizes() == torch::IntArrayRef({1, 16, 32});
  std::cout << "lorikeet " << lorikeet::version() << (is_right ? " works" : " fails") << '\n';
  return is_right ? 0 : 1;
}
