#include "lorikeet/checkpoint/content.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <set>
#include <utility>

#include "lorikeet/core/error.h"

namespace lorikeet {
namespace {

std::string describe(at::ScalarType dtype, at::IntArrayRef shape) {
  return fmt::format("{} [{}]", c10::toString(dtype), fmt::join(shape, ", "));
}

const TensorPiece& first_piece(const CheckpointContent& content, const std::string& name) {
  const auto found = std::find_if(content.tensors.begin(), content.tensors.end(),
                                  [&](const TensorPiece& piece) { return piece.name == name; });
  if (found != content.tensors.end()) return *found;
  throw Error(ExitCode::kCheckpoint,
              fmt::format("the checkpoint of step {} holds no tensor '{}'", content.step, name),
              "it belongs to another model: start a new run under another name");
}

void check_same(const CheckpointContent& content, const TensorPiece& piece, at::ScalarType dtype,
                at::IntArrayRef shape) {
  if (piece.values.scalar_type() == dtype && shape.equals(piece.shape)) return;
  throw Error(
      ExitCode::kCheckpoint,
      fmt::format("the checkpoint of step {} holds '{}' as {}, but {} is needed", content.step,
                  piece.name, describe(piece.values.scalar_type(), piece.shape),
                  describe(dtype, shape)),
      "it belongs to another model: start a new run under another name");
}

}  // namespace

TensorPiece whole_piece(std::string name, torch::Tensor values) {
  std::vector<int64_t> shape = values.sizes().vec();
  return {std::move(name), std::move(shape), 0, std::move(values)};
}

std::vector<std::string> tensor_names(const CheckpointContent& content) {
  std::set<std::string> names;
  for (const TensorPiece& piece : content.tensors) names.insert(piece.name);
  return {names.begin(), names.end()};
}

bool has_tensor(const CheckpointContent& content, const std::string& name) {
  return std::any_of(content.tensors.begin(), content.tensors.end(),
                     [&](const TensorPiece& piece) { return piece.name == name; });
}

void copy_range(const CheckpointContent& content, const std::string& name, at::IntArrayRef shape,
                int64_t begin, torch::Tensor out) {
  const torch::NoGradGuard no_grad;
  check_same(content, first_piece(content, name), out.scalar_type(), shape);
  const int64_t end = begin + out.numel();
  if (begin < 0 || end > c10::multiply_integers(shape) || out.dim() != 1) {
    throw Error(
        ExitCode::kInternal,
        fmt::format("checkpoint: elements {} to {} of '{}' are asked for into {}, which has "
                    "the shape [{}]",
                    begin, end, name, describe(out.scalar_type(), out.sizes()),
                    fmt::join(shape, ", ")));
  }
  int64_t num_copied = 0;
  for (const TensorPiece& piece : content.tensors) {
    if (piece.name != name) continue;
    check_same(content, piece, out.scalar_type(), shape);
    const int64_t from = std::max(begin, piece.begin);
    const int64_t to = std::min(end, piece.begin + piece.values.numel());
    if (from >= to) continue;
    out.narrow(0, from - begin, to - from)
        .copy_(piece.values.reshape({-1}).narrow(0, from - piece.begin, to - from));
    num_copied += to - from;
  }
  if (num_copied == out.numel()) return;
  throw Error(ExitCode::kInternal,
              fmt::format("checkpoint: of elements {} to {} of '{}' only {} were loaded", begin,
                          end, name, num_copied));
}

torch::Tensor whole_tensor(const CheckpointContent& content, const std::string& name) {
  const TensorPiece& first = first_piece(content, name);
  if (first.values.numel() == c10::multiply_integers(first.shape)) {
    return first.values.reshape(first.shape);
  }
  const torch::Tensor whole = torch::empty(first.shape, first.values.options());
  copy_range(content, name, first.shape, 0, whole.view({-1}));
  return whole;
}

}  // namespace lorikeet
