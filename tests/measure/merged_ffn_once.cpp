// merged_ffn forward and backward in fp32 and nothing else, for scripts/merged_ffn_bounds.py to run
// under callgrind and perf.
//
// N tokens, D model, F feed-forward width, E experts, T tokens a segment, G segments.
#include <torch/torch.h>

#include <cstdlib>
#include <iostream>

#include "lorikeet/ops/merged_ffn.h"

namespace lorikeet {
namespace {

using torch::Tensor;

struct Layer {
  int64_t T, D, F, E;

  void run(int64_t N, int64_t repetitions) const {
    const int64_t length = E == 1 ? N : T;  // a dense layer is one segment
    std::vector<int64_t> offsets;
    for (int64_t row = 0; row < N; row += length) offsets.push_back(row);
    const auto G = static_cast<int64_t>(offsets.size());
    offsets.push_back(N);
    torch::manual_seed(1);
    const Tensor dy = torch::randn({N, D});
    const auto leaf = [](std::vector<int64_t> shape, double scale) {
      return (torch::randn(shape) * scale).requires_grad_();
    };
    std::vector<Tensor> leaves{leaf({N, D}, 1), torch::softmax(torch::randn({G, E}), -1),
                               leaf({E, F, D}, 0.02), leaf({E, F, D}, 0.02), leaf({E, D, F}, 0.02)};
    leaves[1].requires_grad_(E > 1);  // a dense layer has no router
    for (int64_t i = 0; i < repetitions; ++i) {
      ops::merged_ffn(leaves[0], offsets, leaves[1], leaves[2], leaves[3], leaves[4]).backward(dy);
      for (Tensor& leaf : leaves) leaf.mutable_grad() = Tensor();
    }
  }
};

}  // namespace
}  // namespace lorikeet

int main(int argc, char** argv) {
  if (argc < 6 || argc > 7) {
    std::cerr << "usage: merged_ffn_once TOKENS SEGMENT_LENGTH D F EXPERTS [REPETITIONS]\n";
    return 2;
  }
  std::vector<int64_t> n;
  for (int i = 1; i < argc; ++i) n.push_back(std::strtoll(argv[i], nullptr, 10));
  const lorikeet::Layer layer{.T = n[1], .D = n[2], .F = n[3], .E = n[4]};
  layer.run(layer.T, 1);  // the micro-kernels of these shapes are made now
  layer.run(n[0], n.size() > 5 ? n[5] : 1);
}
