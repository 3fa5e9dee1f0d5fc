#include "tests/emulation/layer.h"

#include <numeric>

#include "lorikeet/ops/merged_ffn.h"
#include "tests/emulation/emulator.h"

namespace lorikeet::emulation {

using namespace ops::cuda;
using torch::Tensor;

namespace {

void* data(const Tensor& t) { return t.defined() ? t.data_ptr() : nullptr; }
bf16* bits(const Tensor& t) { return static_cast<bf16*>(data(t)); }

/// Filled with NaN: what a kernel forgets to write shows.
Tensor unwritten(std::vector<int64_t> sizes, torch::ScalarType type) {
  return torch::full(sizes, std::numeric_limits<double>::quiet_NaN(), type);
}

}  // namespace

Layer Layer::make(const std::vector<int64_t>& lengths, int64_t D, int64_t F, int64_t E,
                  bool experts_are_float) {
  torch::manual_seed(5);
  Layer layer;
  layer.shape = {D, F, E, std::vector<int64_t>(lengths.size() + 1, 0), experts_are_float};
  std::partial_sum(lengths.begin(), lengths.end(), layer.shape.offsets.begin() + 1);
  const auto random = [](std::vector<int64_t> sizes, double scale, torch::ScalarType type) {
    return (torch::randn(sizes, torch::kDouble) * scale).to(type);
  };
  const auto type = experts_are_float ? torch::kFloat : torch::kBFloat16;
  const double scale = 1 / std::sqrt(static_cast<double>(D));
  layer.x = random({layer.shape.N(), D}, 1, torch::kBFloat16);
  layer.dy = random({layer.shape.N(), D}, 1, torch::kBFloat16);
  layer.routing = torch::softmax(torch::randn({layer.shape.G(), E}), -1);
  layer.gate = random({E, F, D}, scale, type);
  layer.up = random({E, F, D}, scale, type);
  layer.down = random({E, D, F}, scale, type);
  return layer;
}

Gpu small_gpu() {
  return {.name = "small",
          .architecture = 80,
          .num_sms = 2,
          .l2_bytes = 48 << 10,
          .tensor_flops = 1e9,
          .hbm_rate = 1e6,
          .l2_rate = 1e9};
}

namespace {

/// A layer's arguments as the host code wants them.
struct OnDevice {
  explicit OnDevice(const Layer& layer)
      : tiles(tile_tables(layer.shape.offsets)),
        tables(split_tile_tables(tiles.data(), layer.shape.offsets)),
        in{bits(layer.x), layer.routing.data_ptr<float>(), layer.gate.data_ptr(),
           layer.up.data_ptr(), layer.down.data_ptr()} {}
  std::vector<TokenTile> tiles;
  TileTables tables;
  FfnInputs in;
};

}  // namespace

Tensor run_emulated_forward(const Layer& layer, const Gpu& gpu) {
  const FfnShape& shape = layer.shape;
  const OnDevice on(layer);
  const ForwardPlan plan = plan_forward(gpu, shape);
  const Tensor y = unwritten({shape.N(), shape.D}, torch::kBFloat16);
  const Tensor h = unwritten({shape.N(), shape.F}, torch::kBFloat16);
  const Tensor slab = unwritten({plan.slab_elements}, torch::kBFloat16);
  forward(*make_launcher(gpu.kernels, nullptr), gpu, shape, plan, on.tables, on.in,
          {bits(y), nullptr, nullptr, bits(h), bits(slab)});
  return y;
}

Results run_layer(Launcher& launcher, const Layer& layer, const Gpu& gpu, std::optional<Tile> tile,
                  const Needed& needed) {
  const FfnShape& shape = layer.shape;
  const int64_t N = shape.N(), F = shape.F;
  const OnDevice on(layer);
  ForwardPlan plan = plan_forward(gpu, shape);
  BackwardPlan back = plan_backward(gpu, shape);
  if (tile) {
    for (SlabPlan* p : {&plan.gate_up, &plan.down, &back.hidden, &back.input}) p->tile = *tile;
    for (GradientPlan* p : {&back.gate, &back.down}) p->tile = *tile;
  }
  const auto memory = [](std::vector<int64_t> sizes) {
    return unwritten(std::move(sizes), torch::kBFloat16);
  };
  const auto like = [](const Tensor& t, bool is_needed = true) {
    return is_needed ? unwritten(t.sizes().vec(), t.scalar_type()) : Tensor();
  };
  Results r{like(layer.x),
            like(layer.x, needed[0]),
            like(layer.routing, needed[1]),
            like(layer.gate, needed[2]),
            like(layer.up, needed[3]),
            like(layer.down, needed[4])};
  const Tensor a = memory({N, F}), b = memory({N, F}), h = memory({N, F});
  const Tensor slab = memory({plan.slab_elements});
  watch(slab.data_ptr(), slab.nbytes());
  forward(launcher, gpu, shape, plan, on.tables, on.in,
          {bits(r.y), bits(a), bits(b), bits(h), bits(slab)});

  const Tensor h_again = memory({N, F}), da_db = memory({N, 2 * F});
  const Tensor back_slab = memory({back.slab_elements});
  watch(back_slab.data_ptr(), back_slab.nbytes());
  Tensor partials;
  if (needed[1]) partials = unwritten({back.routing_blocks, shape.G(), shape.E}, torch::kFloat);
  const auto floats = [](const Tensor& t) { return static_cast<float*>(data(t)); };
  backward(launcher, gpu, shape, back, on.tables, on.in,
           {bits(layer.dy), bits(a), bits(b), bits(h_again), bits(da_db), bits(back_slab),
            floats(partials), bits(r.dx), floats(r.drouting), data(r.dgate), data(r.dup),
            data(r.ddown)});
  return r;
}

Results run_emulated(const Layer& layer, const Gpu& gpu, std::optional<Tile> tile,
                     const Needed& needed) {
  return run_layer(*make_launcher(gpu.kernels, nullptr), layer, gpu, tile, needed);
}

Results run_reference(const Layer& layer) {
  std::vector<Tensor> leaves;
  for (const Tensor& t : {layer.x, layer.routing, layer.gate, layer.up, layer.down}) {
    leaves.push_back(t.to(torch::kDouble).requires_grad_());
  }
  const Tensor y = lorikeet::ops::merged_ffn(leaves[0], layer.shape.offsets, leaves[1], leaves[2],
                                             leaves[3], leaves[4]);
  const auto g = torch::autograd::grad({y}, leaves, {layer.dy.to(torch::kDouble)});
  return {y.detach(), g[0], g[1], g[2], g[3], g[4]};
}

}  // namespace lorikeet::emulation
