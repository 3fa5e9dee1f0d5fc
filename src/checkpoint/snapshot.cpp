#include "snapshot.h"

#include <fmt/ranges.h>

#include "lorikeet/core/error.h"

namespace lorikeet::checkpoint {
namespace {

void check_piece(const TensorPiece& piece) {
  if (!piece.values.defined()) {
    throw Error(ExitCode::kInternal, "checkpoint: tensor '" + piece.name + "' is undefined");
  }
  const int64_t end = piece.begin + piece.values.numel();
  if (piece.begin >= 0 && end <= c10::multiply_integers(piece.shape)) return;
  throw Error(ExitCode::kInternal,
              fmt::format("checkpoint: elements {} to {} are given of tensor '{}', which has the "
                          "shape [{}]",
                          piece.begin, end - 1, piece.name, fmt::join(piece.shape, ", ")));
}

}  // namespace

Snapshot take_snapshot(const CheckpointContent& content, bool is_copied) {
  const torch::NoGradGuard no_grad;
  Snapshot snapshot;
  try {
    snapshot.content = content;
    for (TensorPiece& piece : snapshot.content.tensors) {
      check_piece(piece);
      torch::Tensor& values = piece.values;
      const bool is_ready = values.is_cpu() && values.is_contiguous() && !values.is_neg();
      if (is_ready && !is_copied) continue;
      const auto options = values.options().device(torch::kCPU).requires_grad(false);
      values = torch::empty(values.sizes(), options).copy_(values);
    }
  } catch (...) {
    snapshot.content.step = content.step;
    snapshot.failure = std::current_exception();
  }
  return snapshot;
}

}  // namespace lorikeet::checkpoint
