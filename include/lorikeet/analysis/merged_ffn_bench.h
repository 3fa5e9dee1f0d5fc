#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace lorikeet {

/// One layer to be timed, forward and backward.
struct MergedFfnShape {
  int64_t hidden_size, ffn_size, tokens, segment_length;
  std::string dtype;  ///< fp32, bf16, or mixed: bf16 with fp32 experts, as in training
};

/// One way of computing it.
struct MergedFfnTiming {
  MergedFfnShape shape;
  /// peak (the micro-kernel alone, on CUDA a large product, for a dense layer's FLOPs), dense (ours
  /// with one expert and one segment, on CUDA LibTorch's products, as dense models have them
  /// there), merged (ours; on CUDA where a kernel takes it), batched (LibTorch's batched products,
  /// on CUDA), reference (ATen)
  std::string form;
  int64_t num_experts;
  double forward_ms, ms;        ///< best of the repetitions; ms: forward and backward
  double gflops;                ///< of a dense layer, 18 N D F, over ms
  double over_dense;            ///< ms over dense's
  int64_t workspace_bytes = 0;  ///< of operators of ours; 0: not counted
  int64_t saved_bytes = 0;      ///< that forward keeps for backward; 0: not counted, as on CUDA
};

struct MergedFfnBench {
  std::vector<MergedFfnShape> shapes;
  std::vector<int64_t> experts{8, 32};
  int64_t repetitions = 5;
  bool with_reference = true;
  std::string device = "cpu";  ///< or cuda, where a GPU can be used
};

/// Times every shape in every form. Forms take turns within a repetition, so that a machine that is
/// busy for a while is busy for all of them.
std::vector<MergedFfnTiming> run(const MergedFfnBench& bench);

/// Shapes that show growth: segments of 64 .. 1024 tokens, and from a quarter to twice the tokens.
std::vector<MergedFfnShape> merged_ffn_sweep(const MergedFfnShape& at);

/// A table for people, and the same as JSON lines.
std::string to_table(const std::vector<MergedFfnTiming>& timings);
std::string to_json_lines(const std::vector<MergedFfnTiming>& timings);

}  // namespace lorikeet
