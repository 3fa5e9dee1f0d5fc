// Timings as text.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "lorikeet/analysis/merged_ffn_bench.h"

namespace lorikeet {

namespace {

std::string megabytes(int64_t bytes) {
  return bytes == 0 ? "" : fmt::format("{:.1f}", static_cast<double>(bytes) / 1e6);
}

nlohmann::ordered_json counted(int64_t bytes) {
  return bytes == 0 ? nlohmann::ordered_json() : nlohmann::ordered_json(bytes);
}

}  // namespace

std::string to_table(const std::vector<MergedFfnTiming>& timings) {
  std::string table = fmt::format(
      "{:>5} {:>6} {:>7} {:>5} {:>6} {:>10} {:>3} {:>9} {:>9} {:>8} {:>7} {:>7} {:>8}\n", "D", "F",
      "tokens", "T", "dtype", "form", "E", "fwd ms", "f+b ms", "GFLOP/s", "/dense", "MB",
      "saved MB");
  for (const MergedFfnTiming& t : timings) {
    table += fmt::format(
        "{:>5} {:>6} {:>7} {:>5} {:>6} {:>10} {:>3} {:>9.1f} {:>9.1f} {:>8.0f} {:>7.2f} {:>7} "
        "{:>8}\n",
        t.shape.hidden_size, t.shape.ffn_size, t.shape.tokens, t.shape.segment_length,
        t.shape.dtype, t.form, t.num_experts, t.forward_ms, t.ms, t.gflops, t.over_dense,
        megabytes(t.workspace_bytes), megabytes(t.saved_bytes));
  }
  return table;
}

std::string to_json_lines(const std::vector<MergedFfnTiming>& timings) {
  std::string lines;
  for (const MergedFfnTiming& t : timings) {
    nlohmann::ordered_json row{{"hidden_size", t.shape.hidden_size},
                               {"ffn_size", t.shape.ffn_size},
                               {"tokens", t.shape.tokens},
                               {"segment_length", t.shape.segment_length},
                               {"dtype", t.shape.dtype},
                               {"form", t.form},
                               {"num_experts", t.num_experts},
                               {"forward_ms", t.forward_ms},
                               {"forward_backward_ms", t.ms},
                               {"dense_gflops", t.gflops},
                               {"over_dense", t.over_dense},
                               {"workspace_bytes", counted(t.workspace_bytes)},
                               {"saved_bytes", counted(t.saved_bytes)}};
    lines += row.dump() + '\n';
  }
  return lines;
}

}  // namespace lorikeet
