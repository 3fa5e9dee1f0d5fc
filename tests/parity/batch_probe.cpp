// batch_probe SHARDS CONTEXT_LENGTH SEED COUNT OUT.safetensors: the first sequences of a run's
// data, "ids" [COUNT, L+1], for giving other people's software the same batches.
#include <torch/torch.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>

#include "lorikeet/data/batch_loader.h"
#include "lorikeet/storage/safetensors.h"

int main(int argc, char** argv) try {
  if (argc != 6) return 2;
  const lorikeet::Dataset dataset(argv[1]);
  lorikeet::LoaderOptions options;
  options.context_length = std::stoll(argv[2]);
  options.seed = std::stoll(argv[3]);
  lorikeet::BatchLoader loader(dataset, options);
  const auto sequences = loader.next(std::stoll(argv[4]));
  const torch::Tensor ids = torch::empty(
      {static_cast<int64_t>(sequences.size()), options.context_length + 1}, torch::kLong);
  int64_t* out = ids.data_ptr<int64_t>();
  for (const auto& sequence : sequences) {
    out = std::copy(sequence.tokens.begin(), sequence.tokens.end(), out);
  }
  lorikeet::save_safetensors(argv[5], {{"ids", ids}});
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "batch_probe: %s\n", error.what());
  return 1;
}
