// model_probe MODEL IN.safetensors OUT.safetensors: logits and the gradient of every parameter for
// the mean next-token loss of "ids" [B, L+1], for comparing a model with other people's software.
#include <torch/torch.h>

#include <cstdio>
#include <exception>

#include "lorikeet/model/load.h"
#include "lorikeet/ops/functions.h"
#include "lorikeet/storage/safetensors.h"

int main(int argc, char** argv) try {
  if (argc != 4) return 2;
  lorikeet::LanguageModel model = lorikeet::load_language_model(argv[1]);
  model->train();
  const torch::Tensor ids = lorikeet::SafetensorsFile(argv[2]).load("ids");
  const int64_t length = ids.size(1) - 1;
  const torch::Tensor logits = model->logits(model->forward(ids.narrow(1, 0, length)).hidden_BLD);
  const torch::Tensor loss =
      lorikeet::ops::token_losses(logits.flatten(0, 1), ids.narrow(1, 1, length).flatten()).mean();
  loss.backward();
  lorikeet::NamedTensors results = {{"logits", logits.detach()}, {"loss", loss.detach()}};
  for (const auto& parameter : model->named_parameters()) {
    results.emplace_back("grad." + parameter.key(), parameter.value().grad());
  }
  lorikeet::save_safetensors(argv[3], results);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "model_probe: %s\n", error.what());
  return 1;
}
