// What launches of the row kernels ask of the hardware.
#include <algorithm>

#include "src/ops/cuda/host/work.h"

namespace lorikeet::ops::cuda {

LaunchWork count_rope(const RopeArguments& arg, bool is_float, int blocks) {
  LaunchWork launch{"rope", {}, blocks, 0};
  const int64_t rows = arg.num_tokens * (arg.queries.count + arg.keys.count);
  const int64_t bytes = rows * 2 * arg.half * (is_float ? 4 : 2);
  const int64_t table_row = 2 * int64_t{arg.half} * 4;
  launch.work.global_read_bytes = bytes + rows * table_row;
  launch.work.global_written_bytes = bytes;
  launch.work.touched_read_bytes = bytes + std::min(arg.num_tokens, arg.table_rows) * table_row;
  launch.work.touched_written_bytes = bytes;
  return launch;
}

LaunchWork count_cross_entropy(const CrossEntropyArguments& arg, bool is_float, int blocks,
                               int64_t counting) {
  LaunchWork launch{"cross_entropy", {}, blocks, 0};
  const int64_t row = int64_t{arg.vocabulary} * (is_float ? 4 : 2), rows = arg.num_rows;
  const bool has_gradients = arg.gradients != nullptr;
  const int64_t written = has_gradients ? rows * row : 0;
  // Every thread reads the target; one of them the target's logit.
  launch.work.global_read_bytes =
      rows * kRowThreads * 8 + counting * ((has_gradients ? 2 : 1) * row + 4);
  launch.work.global_written_bytes = written + rows * 4;
  launch.work.touched_read_bytes = rows * 8 + counting * row;
  launch.work.touched_written_bytes = launch.work.global_written_bytes;
  return launch;
}

LaunchWork count_rms_norm(const RmsNormArguments& arg, bool is_float, int blocks) {
  LaunchWork launch{"rms_norm", {}, blocks, 0};
  const int64_t rows = arg.num_rows, numbers = rows * arg.width;
  const int64_t bytes = numbers * (is_float ? 4 : 2), weight = int64_t{arg.width} * 4;
  launch.work.global_read_bytes = 2 * bytes + rows * weight;
  launch.work.global_written_bytes = bytes + rows * 4;
  launch.work.touched_read_bytes = bytes + weight;
  launch.work.touched_written_bytes = launch.work.global_written_bytes;
  return launch;
}

LaunchWork count_rms_norm_input(const RmsNormInputArguments& arg, bool is_float, int blocks) {
  LaunchWork launch{"rms_norm_input", {}, blocks, 0};
  const int64_t rows = arg.num_rows, numbers = rows * arg.width;
  const int64_t bytes = numbers * (is_float ? 4 : 2), weight = int64_t{arg.width} * 4;
  // Every lane reads its row's rstd.
  launch.work.global_read_bytes = 2 * (2 * bytes + rows * weight) + rows * 32 * 4;
  launch.work.global_written_bytes = bytes;
  launch.work.touched_read_bytes = 2 * bytes + weight + rows * 4;
  launch.work.touched_written_bytes = bytes;
  return launch;
}

LaunchWork count_rms_norm_weight(const RmsNormWeightArguments& arg, bool is_float, int blocks) {
  LaunchWork launch{"rms_norm_weight", {}, blocks, 0};
  const int64_t rows = arg.num_rows, bytes = rows * arg.width * (is_float ? 4 : 2);
  launch.work.global_read_bytes = 2 * bytes + rows * (arg.width / 8) * 4;
  launch.work.global_written_bytes = int64_t{arg.num_stripes} * arg.width * 4;
  launch.work.touched_read_bytes = 2 * bytes + rows * 4;
  launch.work.touched_written_bytes = launch.work.global_written_bytes;
  return launch;
}

}  // namespace lorikeet::ops::cuda
