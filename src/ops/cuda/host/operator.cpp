// lorikeet::merged_ffn on CUDA tensors: memory, stream and device from LibTorch around the launches
// of merged_ffn.cpp. It joins the operator when liblorikeet_cuda.so is opened.
#include <ATen/ATen.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <cstring>

#include "src/ops/cpu/merged_ffn.h"
#include "src/ops/cpu/workspace.h"
#include "src/ops/cuda/hook.h"
#include "src/ops/cuda/host/device.h"
#include "src/ops/cuda/host/merged_ffn.h"

namespace lorikeet::ops::cuda {

namespace {

using at::Tensor;

bf16* bits(const Tensor& t) {
  return t.defined() && t.numel() > 0 ? static_cast<bf16*>(t.data_ptr()) : nullptr;
}
void* data(const Tensor& t) { return t.defined() ? t.data_ptr() : nullptr; }

/// Copied from pinned memory on the current stream, so that the host waits for nothing.
Tensor tables_on_device(const std::vector<int64_t>& offsets, const at::Device& device) {
  const std::vector<TokenTile> tiles = tile_tables(offsets);
  const auto bytes = static_cast<int64_t>(tiles.size() * sizeof(TokenTile));
  const Tensor pinned = at::empty({bytes}, at::TensorOptions(at::kByte).pinned_memory(true));
  std::memcpy(pinned.data_ptr(), tiles.data(), tiles.size() * sizeof(TokenTile));
  return pinned.to(device, /*non_blocking=*/true);
}

/// A call's arguments, ready for launches.
struct Call {
  Call(const Tensor& given_x, at::IntArrayRef offsets, const Tensor& given_routing,
       const Tensor& given_gate, const Tensor& given_up, const Tensor& given_down)
      : x(prepared(given_x)),
        routing(given_routing.contiguous()),
        gate(prepared(given_gate)),
        up(prepared(given_up)),
        down(prepared(given_down)),
        shape{x.size(1), gate.size(1), gate.size(0), offsets.vec(),
              gate.scalar_type() == at::kFloat},
        table_memory(tables_on_device(shape.offsets, x.device())),
        tables(split_tile_tables(static_cast<const TokenTile*>(table_memory.data_ptr()),
                                 shape.offsets)),
        in{bits(x), routing.const_data_ptr<float>(), gate.data_ptr(), up.data_ptr(),
           down.data_ptr()},
        gpu(device_gpu(x.device().index())),
        launcher(make_launcher(gpu.kernels, c10::cuda::getCurrentCUDAStream().stream())) {}

  Tensor memory(at::IntArrayRef sizes) const { return at::empty(sizes, x.options()); }

  Tensor x, routing, gate, up, down;
  FfnShape shape;
  Tensor table_memory;
  TileTables tables;
  FfnInputs in;
  Gpu gpu;
  std::unique_ptr<Launcher> launcher;
};

std::tuple<Tensor, Tensor, Tensor> forward_on_device(const Tensor& x, at::IntArrayRef offsets,
                                                     const Tensor& routing, const Tensor& gate,
                                                     const Tensor& up, const Tensor& down,
                                                     bool save) {
  const c10::cuda::CUDAGuard guard(x.device());
  Call call(x, offsets, routing, gate, up, down);
  const int64_t N = call.shape.N(), F = call.shape.F;
  const ForwardPlan plan = plan_forward(call.gpu, call.shape);
  const Tensor y = at::empty_like(call.x), h = call.memory({N, F});
  const Tensor a = call.memory({save ? N * F : 0}), b = call.memory({save ? N * F : 0});
  const Tensor slab = call.memory({plan.slab_elements});
  forward(*call.launcher, call.gpu, call.shape, plan, call.tables, call.in,
          {bits(y), bits(a), bits(b), bits(h), bits(slab)});
  cpu::record_workspace(/*backward=*/false, static_cast<int64_t>(h.nbytes() + slab.nbytes()));
  return {y, a, b};
}

std::array<Tensor, 5> backward_on_device(const Tensor& dy, const Tensor& x, at::IntArrayRef offsets,
                                         const Tensor& routing, const Tensor& gate,
                                         const Tensor& up, const Tensor& down, const Tensor& a,
                                         const Tensor& b, const std::array<bool, 5>& needed) {
  const c10::cuda::CUDAGuard guard(x.device());
  Call call(x, offsets, routing, gate, up, down);
  const FfnShape& shape = call.shape;
  const int64_t N = shape.N(), F = shape.F;
  const BackwardPlan plan = plan_backward(call.gpu, shape);
  const Tensor ready_dy = prepared(dy), h = call.memory({N, F}), da_db = call.memory({N, 2 * F});
  const Tensor slab = call.memory({plan.slab_elements});
  const Tensor partials =
      needed[1] ? at::empty({plan.routing_blocks, shape.G(), shape.E}, call.routing.options())
                : Tensor();
  const auto like = [&](size_t i, const Tensor& t) {
    return needed[i] ? at::empty_like(t) : Tensor();
  };
  std::array<Tensor, 5> gradients{like(0, call.x), like(1, call.routing), like(2, call.gate),
                                  like(3, call.up), like(4, call.down)};
  backward(*call.launcher, call.gpu, shape, plan, call.tables, call.in,
           {bits(ready_dy), bits(a), bits(b), bits(h), bits(da_db), bits(slab),
            static_cast<float*>(data(partials)), bits(gradients[0]),
            static_cast<float*>(data(gradients[1])), data(gradients[2]), data(gradients[3]),
            data(gradients[4])});
  const size_t bytes =
      h.nbytes() + da_db.nbytes() + slab.nbytes() + (partials.defined() ? partials.nbytes() : 0);
  cpu::record_workspace(/*backward=*/true, static_cast<int64_t>(bytes));
  return gradients;
}

const bool joined = [] {
  // cuBLAS would otherwise be free to add the parts of a bf16 product in bf16.
  at::globalContext().setAllowBF16ReductionCuBLAS(/*allow_reduced_precision=*/false);
  set_merged_ffn({device_gpu, forward_on_device, backward_on_device});
  return true;
}();

}  // namespace

}  // namespace lorikeet::ops::cuda
