// Prints the tables of docs/gpu_kernels.md: a roofline of the CUDA kernels' launches. Nothing here
// is measured.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "src/ops/cuda/host/merged_ffn.h"
#include "src/ops/cuda/host/work.h"

namespace lorikeet::ops::cuda {
namespace {

struct Limits {
  Gpu gpu;
  double shared_rate;  ///< bytes a second
};

std::vector<Limits> limits() {
  // 128 bytes a clock and SM, at 1.41 and 1.83 GHz.
  return {{known_gpus()[0], 128 * 1.41e9 * 108}, {known_gpus()[1], 128 * 1.83e9 * 132}};
}

/// Seconds that each resource needs at least.
struct Times {
  double tensor = 0, hbm = 0, l2 = 0, shared = 0;
  double bound() const { return std::max({tensor, hbm, l2, shared}); }
  const char* name() const {
    const double most = bound();
    return most == tensor ? "mma" : most == hbm ? "HBM" : most == l2 ? "L2" : "shared";
  }
};

/// @param stays  the slab is in L2 from the launch that writes it to those that read it
Times times_of(const LaunchWork& launch, const Limits& limits, bool stays) {
  const Work& work = launch.work;
  Times t;
  t.tensor = static_cast<double>(work.tensor_flops) / limits.gpu.tensor_flops;
  if (launch.tiles > 0) {  // whole rounds of all SMs
    const double rounds = std::ceil(static_cast<double>(launch.tiles) / limits.gpu.num_sms);
    t.tensor *= rounds * limits.gpu.num_sms / static_cast<double>(launch.tiles);
  }
  t.hbm = static_cast<double>(work.touched_read_bytes + work.touched_written_bytes -
                              (stays ? work.slab_bytes : 0)) /
          limits.gpu.hbm_rate;
  t.l2 =
      static_cast<double>(work.global_read_bytes + work.global_written_bytes) / limits.gpu.l2_rate;
  t.shared =
      static_cast<double>(work.shared_copied_bytes + work.shared_matrix_bytes) / limits.shared_rate;
  return t;
}

/// Whether every launch's slab stays in L2. Merges belong to the product after them, expert and
/// routing gradients to the segment gradients before them.
std::vector<bool> which_stay(const std::vector<LaunchWork>& launches, const Gpu& gpu) {
  std::vector<bool> stay(launches.size());
  size_t first_unknown = 0;
  bool current = false;
  for (size_t i = 0; i < launches.size(); ++i) {
    if (launches[i].tiles > 0) {
      current = launches[i].work.slab_bytes <= slab_bytes_in_l2(gpu);
      for (; first_unknown <= i; ++first_unknown) stay[first_unknown] = current;
    } else if (launches[i].name != "merge") {
      stay[i] = current;
      first_unknown = i + 1;
    }
  }
  return stay;
}

struct Row {
  int launches = 0;
  bool stays = false;
  double flops = 0, hbm = 0, l2 = 0, shared = 0, seconds = 0, slab = 0;
  std::map<std::string, double> bound_seconds;
};

struct Layer {
  const char* name;
  int64_t D, F, E;
};

FfnShape shape_of(const Layer& layer) {
  constexpr int64_t kTokens = 16384, kSegment = 256;
  FfnShape shape{layer.D, layer.F, layer.E, {}, /*experts_are_float=*/true};
  for (int64_t row = 0; row <= kTokens; row += kSegment) shape.offsets.push_back(row);
  return shape;
}

std::vector<LaunchWork> launches_of(const FfnShape& shape, const Gpu& gpu, bool is_backward) {
  const std::vector<TokenTile> tiles = tile_tables(shape.offsets);
  const TileTables tables = split_tile_tables(tiles.data(), shape.offsets);
  // Addresses that are counted with and never followed.
  static Words4 somewhere;
  auto* const half = reinterpret_cast<bf16*>(&somewhere);
  auto* const single = reinterpret_cast<float*>(&somewhere);
  const FfnInputs in{half, single, single, single, single};
  WorkCounter counter;
  if (is_backward) {
    backward(counter, gpu, shape, plan_backward(gpu, shape), tables, in,
             {half, half, half, half, half, half, single, half, single, single, single, single});
  } else {
    forward(counter, gpu, shape, plan_forward(gpu, shape), tables, in,
            {half, half, half, half, half});
  }
  return counter.launches;
}

double add_rows(std::vector<std::pair<std::string, Row>>& rows, const FfnShape& shape,
                const Limits& limits, bool is_backward) {
  const std::vector<LaunchWork> launches = launches_of(shape, limits.gpu, is_backward);
  const std::vector<bool> stay = which_stay(launches, limits.gpu);
  double seconds = 0;
  for (size_t i = 0; i < launches.size(); ++i) {
    const LaunchWork& launch = launches[i];
    const std::string name = launch.name == "merge" && is_backward ? "merge again" : launch.name;
    auto at = std::find_if(rows.begin(), rows.end(), [&](auto& r) { return r.first == name; });
    if (at == rows.end()) at = rows.insert(rows.end(), {name, {}});
    const Times t = times_of(launch, limits, stay[i]);
    Row& row = at->second;
    ++row.launches;
    row.flops += static_cast<double>(launch.work.tensor_flops);
    row.hbm += t.hbm * limits.gpu.hbm_rate;
    row.l2 += t.l2 * limits.gpu.l2_rate;
    row.shared += t.shared * limits.shared_rate;
    row.seconds += t.bound();
    row.stays = stay[i];
    row.slab = std::max(row.slab, static_cast<double>(launch.work.slab_bytes));
    row.bound_seconds[t.name()] += t.bound();
    seconds += t.bound();
  }
  return seconds;
}

std::string main_bound(const Row& row) {
  return std::max_element(row.bound_seconds.begin(), row.bound_seconds.end(),
                          [](auto& a, auto& b) { return a.second < b.second; })
      ->first;
}

/// Merged weights, and in backward segment gradients, whole in HBM around perfect products.
double plain_seconds(const FfnShape& shape, const Gpu& gpu, bool is_backward) {
  const auto weights = static_cast<double>(3 * shape.D * shape.F);
  const auto merged = static_cast<double>(shape.G()) * weights * 2;
  const double experts = static_cast<double>(shape.E) * weights * 4;
  const double flops = (is_backward ? 4 : 2) * static_cast<double>(shape.N()) * weights;
  const double bytes = is_backward ? 4 * merged + 3 * experts : 2 * merged + experts;
  return flops / gpu.tensor_flops + bytes / gpu.hbm_rate;
}

double peak_seconds(const FfnShape& shape, const Gpu& gpu, bool is_backward) {
  return (is_backward ? 12.0 : 6.0) * static_cast<double>(shape.N() * shape.D * shape.F) /
         gpu.tensor_flops;
}

void print_summary(const std::vector<Layer>& layers) {
  std::printf(
      "| GPU | layer | E | forward | plain | launches | backward | plain | launches "
      "|\n|---|---|---:|---:|---:|---:|---:|---:|---:|\n");
  for (const Limits& l : limits()) {
    for (const Layer& layer : layers) {
      const FfnShape shape = shape_of(layer);
      std::printf("| %s | %s | %d |", l.gpu.name, layer.name, static_cast<int>(layer.E));
      for (const bool is_backward : {false, true}) {
        std::vector<std::pair<std::string, Row>> rows;
        const double peak = peak_seconds(shape, l.gpu, is_backward);
        const double seconds = add_rows(rows, shape, l, is_backward);
        int launches = 0;
        for (const auto& [name, row] : rows) launches += row.launches;
        std::printf(" %.0f%% | %.0f%% | %d |", 100 * peak / seconds,
                    100 * peak / plain_seconds(shape, l.gpu, is_backward), launches);
      }
      std::printf("\n");
    }
  }
}

/// Of every kernel its share of forward and backward together, and what bounds it.
void print_bounds(const std::vector<Layer>& layers) {
  bool is_first = true;
  for (const Limits& l : limits()) {
    for (const Layer& layer : layers) {
      const FfnShape shape = shape_of(layer);
      std::vector<std::pair<std::string, Row>> rows;
      const double total = add_rows(rows, shape, l, false) + add_rows(rows, shape, l, true);
      rows.pop_back();  // sum_partials: nothing
      if (is_first) {
        std::printf("\n| GPU | layer | E |");
        for (const auto& [name, row] : rows) std::printf(" %s |", name.c_str());
        std::printf("\n|---|---|---:|");
        for (size_t i = 0; i < rows.size(); ++i) std::printf("---:|");
        std::printf("\n");
      }
      is_first = false;
      std::printf("| %s | %s | %d |", l.gpu.name, layer.name, static_cast<int>(layer.E));
      for (const auto& [name, row] : rows) {
        std::printf(" %.0f%% %s |", 100 * row.seconds / total, main_bound(row).c_str());
      }
      std::printf("\n");
    }
  }
}

/// MB of the slabs that kernels read or, segment_gradients, write.
void print_slabs(const std::vector<Layer>& layers) {
  const std::vector<const char*> with_slabs = {"gate_up", "down", "hidden_gradient",
                                               "input_gradient", "segment_gradients"};
  std::printf("\n| GPU | layer | E | stays to |");
  for (const char* name : with_slabs) std::printf(" %s |", name);
  std::printf("\n|---|---|---:|---:|");
  for (size_t i = 0; i < with_slabs.size(); ++i) std::printf("---:|");
  std::printf("\n");
  for (const Limits& l : limits()) {
    for (const Layer& layer : layers) {
      const FfnShape shape = shape_of(layer);
      std::vector<std::pair<std::string, Row>> rows;
      add_rows(rows, shape, l, false);
      add_rows(rows, shape, l, true);
      std::printf("| %s | %s | %d | %.1f |", l.gpu.name, layer.name, static_cast<int>(layer.E),
                  static_cast<double>(slab_bytes_in_l2(l.gpu)) / 1e6);
      for (const auto& [name, row] : rows) {
        if (std::find(with_slabs.begin(), with_slabs.end(), name) == with_slabs.end()) continue;
        std::printf(row.stays ? " %.1f |" : " **%.1f** |", row.slab / 1e6);
      }
      std::printf("\n");
    }
  }
}

/// What forward and backward ask of each resource in all.
void print_totals(const std::vector<Layer>& layers) {
  std::printf("\n| GPU | layer | E |");
  for (const char* pass : {"forward", "backward"}) {
    std::printf(" %s GFLOP | HBM GB | L2 GB | shared GB |", pass);
  }
  std::printf("\n|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n");
  for (const Limits& l : limits()) {
    for (const Layer& layer : layers) {
      std::printf("| %s | %s | %d |", l.gpu.name, layer.name, static_cast<int>(layer.E));
      for (const bool is_backward : {false, true}) {
        std::vector<std::pair<std::string, Row>> rows;
        add_rows(rows, shape_of(layer), l, is_backward);
        Row all;
        for (const auto& [name, row] : rows) {
          all.flops += row.flops;
          all.hbm += row.hbm;
          all.l2 += row.l2;
          all.shared += row.shared;
        }
        std::printf(" %.0f | %.2f | %.2f | %.2f |", all.flops / 1e9, all.hbm / 1e9, all.l2 / 1e9,
                    all.shared / 1e9);
      }
      std::printf("\n");
    }
  }
}

void print_kernels(const Limits& l, const Layer& layer) {
  const FfnShape shape = shape_of(layer);
  std::vector<std::pair<std::string, Row>> rows;
  const double total = add_rows(rows, shape, l, false) + add_rows(rows, shape, l, true);
  std::printf("\n%s, %s, %d experts:\n\n", l.gpu.name, layer.name, static_cast<int>(layer.E));
  std::printf(
      "| kernel | launches | slab MB | GFLOP | HBM GB | L2 GB | shared GB | bound | share |\n");
  std::printf("|---|---:|---:|---:|---:|---:|---:|---|---:|\n");
  for (const auto& [name, row] : rows) {
    std::printf("| %s | %d | %.1f | %.0f | %.2f | %.2f | %.2f | %s | %.0f%% |\n", name.c_str(),
                row.launches, row.slab / 1e6, row.flops / 1e9, row.hbm / 1e9, row.l2 / 1e9,
                row.shared / 1e9, main_bound(row).c_str(), 100 * row.seconds / total);
  }
}

/// What batched products hold of slabs, which beside bf16 ones are in fp32 too.
void print_batched(const Limits& l, const Layer& layer) {
  const std::vector<int64_t> offsets = shape_of(layer).offsets;
  for (const int64_t bytes : {4, 2}) {
    const FfnShape shape = batched_shape(offsets, layer.D, layer.F, layer.E, bytes, 4);
    const auto megabytes = [&](int64_t elements) {
      return static_cast<double>(elements * shape.slab_element_bytes) / 1e6;
    };
    std::printf("| %s | %s | %d | %s | %.1f | %.1f |\n", l.gpu.name, layer.name,
                static_cast<int>(layer.E), bytes == 4 ? "fp32" : "bf16",
                megabytes(plan_forward(l.gpu, shape).slab_elements),
                megabytes(plan_backward(l.gpu, shape).slab_elements));
  }
}

/// The row kernels in bf16: 16,384 tokens of the 0.3B model, and 2,048 of them as a chunk of
/// logits.
void print_rows(const Limits& l) {
  static Words4 somewhere;  // counted with, never followed
  const auto* const single = reinterpret_cast<const float*>(&somewhere);
  const RopeArguments::Heads heads{&somewhere, nullptr, 16};
  const RopeArguments turn{heads, heads, single, single, 16384, 4096, 32, 0};
  const RmsNormArguments norm{&somewhere, single, nullptr, nullptr, 16384, 1024, 1};
  const RmsNormInputArguments input{&somewhere, nullptr, single, single, nullptr, 16384, 1024};
  const RmsNormWeightArguments weight{&somewhere, nullptr, single, nullptr, 16384, 1024, 64};
  const CrossEntropyArguments chunk{&somewhere, &somewhere, nullptr, nullptr, 2048, 32000, 1};
  for (const LaunchWork& launch :
       {count_rope(turn, false, 1), count_cross_entropy(chunk, false, 1, chunk.num_rows),
        count_rms_norm(norm, false, 1), count_rms_norm_input(input, false, 1),
        count_rms_norm_weight(weight, false, 1)}) {
    const Times t = times_of(launch, l, /*stays=*/false);
    std::printf("| %s | %s | %.1f | %.1f | %s |\n", l.gpu.name, launch.name.c_str(),
                t.hbm * l.gpu.hbm_rate / 1e6, t.l2 * l.gpu.l2_rate / 1e6, t.name());
  }
}

}  // namespace
}  // namespace lorikeet::ops::cuda

int main() {
  using namespace lorikeet::ops::cuda;
  std::vector<Layer> layers;
  for (const int64_t E : {8, 16, 32}) layers.push_back({"0.3B", 1024, 2816, E});
  for (const int64_t E : {8, 16, 32}) layers.push_back({"1.5B", 1536, 4096, E});
  print_summary(layers);
  print_bounds(layers);
  print_slabs(layers);
  print_totals(layers);
  for (const Limits& l : limits()) print_kernels(l, {"0.3B", 1024, 2816, 8});
  std::printf("\n| GPU | row kernel | HBM MB | L2 MB | bound |\n|---|---|---:|---:|---|\n");
  for (const Limits& l : limits()) print_rows(l);
  std::printf(
      "\n| GPU | layer | E | batched products in | forward, slab MB | backward, slab MB |\n"
      "|---|---|---:|---|---:|---:|\n");
  for (const Limits& l : limits()) print_batched(l, {"0.3B", 1024, 2816, 8});
}
