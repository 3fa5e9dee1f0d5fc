#pragma once
#include <torch/torch.h>

#include <array>
#include <optional>
#include <vector>

#include "src/ops/cuda/host/merged_ffn.h"

/// One merged feed-forward layer on the emulated GPU, with tensors for its memory.
namespace lorikeet::emulation {

struct Layer {
  ops::cuda::FfnShape shape;
  torch::Tensor x, routing, gate, up, down, dy;

  /// Random values; bf16, the experts fp32 if so asked.
  static Layer make(const std::vector<int64_t>& lengths, int64_t D, int64_t F, int64_t E,
                    bool experts_are_float);
};

struct Results {
  torch::Tensor y, dx, drouting, dgate, dup, ddown;
  std::vector<torch::Tensor> all() const { return {y, dx, drouting, dgate, dup, ddown}; }
};

/// A GPU of few SMs and little L2, so that small layers already take several slabs and groups.
ops::cuda::Gpu small_gpu();

/// Which gradients are asked for: of x, routing, gate, up and down.
using Needed = std::array<bool, 5>;
constexpr Needed kAll = {true, true, true, true, true};

/// Forward and backward through `launcher`. @param tile takes the place of every plan's choice
/// @param needed  the others are left undefined
Results run_layer(ops::cuda::Launcher& launcher, const Layer& layer, const ops::cuda::Gpu& gpu,
                  std::optional<ops::cuda::Tile> tile = {}, const Needed& needed = kAll);
/// The same on the emulated GPU.
Results run_emulated(const Layer& layer, const ops::cuda::Gpu& gpu,
                     std::optional<ops::cuda::Tile> tile = {}, const Needed& needed = kAll);
/// Forward as without gradients: nothing is saved.
torch::Tensor run_emulated_forward(const Layer& layer, const ops::cuda::Gpu& gpu);
/// The reference in fp64.
Results run_reference(const Layer& layer);

}  // namespace lorikeet::emulation
