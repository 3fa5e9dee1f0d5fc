// Every kernel of the merged feed-forward that is compiled, and how it is launched.
#include <lorikeet_device.h>

#include "backward.cuh"
#include "combine.cuh"
#include "forward.cuh"
#include "launchers.h"
#include "routing.cuh"

namespace lorikeet::ops::cuda {

namespace {

template <class Shape, class Arguments>
void launch_product(const char* name, void (*kernel)(Arguments), const Arguments& arguments,
                    int blocks, void* stream) {
  device::launch(name, kernel, {blocks, Shape::kThreads, Shape::kSharedBytes},
                 device::to_stream(stream), arguments);
}

void launch_combine(const char* name, void (*kernel)(CombineArguments),
                    const CombineArguments& arguments, int blocks, void* stream) {
  device::launch(
      name, kernel,
      {blocks, kCombineThreads, coefficient_bytes(arguments.num_outs, arguments.num_ins)},
      device::to_stream(stream), arguments);
}

template <bool kFloat, int kExperts8>
void launch_routing(const RoutingGradientArguments& arguments, int blocks, void* stream) {
  const int bytes = kRoutingSegments * kExperts8 * 8 * static_cast<int>(sizeof(float));
  device::launch("routing_gradients", routing_gradients<kFloat, kExperts8>,
                 {blocks, kStreamThreads, bytes}, device::to_stream(stream), arguments);
}

template <bool kFloat>
void launch_routing(const RoutingGradientArguments& arguments, int blocks, void* stream) {
  if (arguments.num_experts <= 8) return launch_routing<kFloat, 1>(arguments, blocks, stream);
  if (arguments.num_experts <= 32) return launch_routing<kFloat, 4>(arguments, blocks, stream);
  launch_routing<kFloat, 8>(arguments, blocks, stream);
}

class MmaLauncher : public Launcher {
 public:
  explicit MmaLauncher(void* stream) : stream_(stream) {}

  void merge(const CombineArguments& arguments, bool experts_are_float, int blocks) override;
  void expert_gradients(const CombineArguments& arguments, bool experts_are_float,
                        int blocks) override;
  void gate_up(const GateUpArguments& arguments, Tile tile, int blocks) override;
  void down(const StoreArguments& arguments, Tile tile, int blocks) override;
  void hidden_gradient(const HiddenGradientArguments& arguments, Tile tile, int blocks) override;
  void input_gradient(const StoreArguments& arguments, Tile tile, int blocks) override;
  void segment_gradients(const SegmentGradientArguments& arguments, Tile tile, int blocks) override;
  void routing_gradients(const RoutingGradientArguments& arguments, bool experts_are_float,
                         int blocks) override;
  void sum_partials(const SumArguments& arguments, int blocks) override;

 private:
  void* stream_;
};

void MmaLauncher::merge(const CombineArguments& arguments, bool experts_are_float, int blocks) {
  launch_combine("merge", experts_are_float ? combine<true, false> : combine<false, false>,
                 arguments, blocks, stream_);
}

void MmaLauncher::expert_gradients(const CombineArguments& arguments, bool experts_are_float,
                                   int blocks) {
  launch_combine("expert_gradients",
                 experts_are_float ? combine<false, true> : combine<false, false>, arguments,
                 blocks, stream_);
}

void MmaLauncher::gate_up(const GateUpArguments& arguments, Tile tile, int blocks) {
  tile == Tile::tall
      ? launch_product<TallTile>("gate_up", cuda::gate_up<TallTile>, arguments, blocks, stream_)
      : launch_product<FlatTile>("gate_up", cuda::gate_up<FlatTile>, arguments, blocks, stream_);
}

void MmaLauncher::down(const StoreArguments& arguments, Tile tile, int blocks) {
  tile == Tile::tall
      ? launch_product<TallTile>("down", store_product<TallTile, false>, arguments, blocks, stream_)
      : launch_product<FlatTile>("down", store_product<FlatTile, false>, arguments, blocks,
                                 stream_);
}

void MmaLauncher::hidden_gradient(const HiddenGradientArguments& arguments, Tile tile, int blocks) {
  tile == Tile::tall ? launch_product<TallTile>("hidden_gradient", cuda::hidden_gradient<TallTile>,
                                                arguments, blocks, stream_)
                     : launch_product<FlatTile>("hidden_gradient", cuda::hidden_gradient<FlatTile>,
                                                arguments, blocks, stream_);
}

void MmaLauncher::input_gradient(const StoreArguments& arguments, Tile tile, int blocks) {
  tile == Tile::tall ? launch_product<TallTile>("input_gradient", store_product<TallTile, true>,
                                                arguments, blocks, stream_)
                     : launch_product<FlatTile>("input_gradient", store_product<FlatTile, true>,
                                                arguments, blocks, stream_);
}

void MmaLauncher::segment_gradients(const SegmentGradientArguments& arguments, Tile tile,
                                    int blocks) {
  tile == Tile::tall
      ? launch_product<TallTile>("segment_gradients", cuda::segment_gradients<TallTile>, arguments,
                                 blocks, stream_)
      : launch_product<FlatTile>("segment_gradients", cuda::segment_gradients<FlatTile>, arguments,
                                 blocks, stream_);
}

void MmaLauncher::routing_gradients(const RoutingGradientArguments& arguments,
                                    bool experts_are_float, int blocks) {
  experts_are_float ? launch_routing<true>(arguments, blocks, stream_)
                    : launch_routing<false>(arguments, blocks, stream_);
}

void MmaLauncher::sum_partials(const SumArguments& arguments, int blocks) {
  device::launch("sum_partials", cuda::sum_partials, {blocks, kStreamThreads, 0},
                 device::to_stream(stream_), arguments);
}

}  // namespace

std::unique_ptr<Launcher> make_launcher(KernelSet kernels, void* stream) {
  switch (kernels) {
    case KernelSet::mma:
      return std::make_unique<MmaLauncher>(stream);
    case KernelSet::none:
      break;
  }
  return nullptr;
}

}  // namespace lorikeet::ops::cuda
