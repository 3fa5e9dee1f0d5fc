#pragma once
#include <torch/torch.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace lorikeet {

/// Consecutive elements of a tensor, counted row by row: what one rank holds of it.
struct TensorPiece {
  std::string name;
  std::vector<int64_t> shape;  ///< of the whole tensor
  int64_t begin = 0;           ///< the first element
  torch::Tensor values;        ///< of any shape and on any device; numel() elements
};

/// The whole tensor as one piece.
TensorPiece whole_piece(std::string name, torch::Tensor values);

/// Everything a run needs to go on as if it had never stopped.
struct CheckpointContent {
  int64_t step = 0;  ///< optimizer steps taken
  int64_t tokens = 0;
  int64_t sequences = 0;  ///< sequences consumed: the place in the data
  /// Parameters, optimizer moments, random generators. To save: this rank's pieces, in any order;
  /// those of all ranks together hold every element of every tensor exactly once. A piece without
  /// elements counts for nothing. Loaded: pieces of all ranks, ordered by name and first element.
  std::vector<TensorPiece> tensors;
  /// Small states by name, each a JSON text (returned compact, keys sorted). These and what follows
  /// are saved as rank 0 gives them.
  std::map<std::string, std::string> states;
  std::string config_yaml;
  std::string code_version;
  std::string data_fingerprint;
  int world_size = 1;  ///< ranks that saved it; what is given when saving is passed over
};

/// Each name once, sorted.
std::vector<std::string> tensor_names(const CheckpointContent& content);
bool has_tensor(const CheckpointContent& content, const std::string& name);
/// Copies elements [begin, begin + out.numel()) of a tensor, from however many pieces.
/// @param shape  that the whole tensor must have
/// @param out  1-D, of the tensor's dtype, on any device
/// @throws Error(kCheckpoint) for an absent name, another shape or dtype; Error(kInternal) for
/// elements that were not loaded
void copy_range(const CheckpointContent& content, const std::string& name, at::IntArrayRef shape,
                int64_t begin, torch::Tensor out);
/// In its shape; not copied where one piece holds it all, and then only to be read.
/// @throws Error(kCheckpoint) for an absent name; Error(kInternal) for elements that were not
/// loaded
torch::Tensor whole_tensor(const CheckpointContent& content, const std::string& name);

}  // namespace lorikeet
