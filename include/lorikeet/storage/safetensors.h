#pragma once
#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lorikeet/core/file.h"

namespace lorikeet {

// The safetensors format (github.com/huggingface/safetensors, "Format"): 8 bytes length N, N bytes
// of JSON {name: {dtype, shape, data_offsets}}, then the tensors' bytes without holes,
// little-endian, row-major. Dtypes read and written here: F64 F32 F16 BF16 I64 I32 I16 I8 U8 BOOL.

/// Tensors by name, in the order in which they are to be written.
using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

struct TensorInfo {
  at::ScalarType dtype = at::kFloat;
  std::vector<int64_t> shape;
  uint64_t offset = 0;  ///< of the first byte, from the start of the file
  uint64_t bytes = 0;
};

/// "F32 [2, 3]", as messages show it.
std::string to_string(const TensorInfo& info);
/// "[2, 3]"
std::string shape_text(const std::vector<int64_t>& shape);

/// A safetensors file, mapped into memory; nothing of it is trusted. Copies are cheap and share the
/// map. Everything wrong with the file is an Error(kCheckpoint) of the constructor that names file,
/// tensor, value and rule. Pickled files (*.bin, *.pt, *.pth) are refused: unpickling runs code of
/// whoever made the file.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::string& path);

  const std::string& path() const { return map_->path(); }
  /// Sorted.
  std::vector<std::string> names() const;
  bool contains(const std::string& name) const { return tensors_.contains(name); }
  const TensorInfo& info(const std::string& name) const;
  /// A tensor on the CPU with memory of its own.
  at::Tensor load(const std::string& name) const;
  /// The same without a copy: it reads the mapped file and keeps the map alive. Writing to it would
  /// end the process, so it is for copying from (`parameter.copy_(file.view(name))`). Copies after
  /// all where the data is not aligned to its dtype.
  at::Tensor view(const std::string& name) const;
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  std::shared_ptr<const MappedFile> map_;
  std::map<std::string, TensorInfo> tensors_;
  std::map<std::string, std::string> metadata_;
};

struct SafetensorsOptions {
  std::map<std::string, std::string> metadata;
  /// Floating-point tensors are cast to this, one at a time.
  std::optional<at::ScalarType> dtype = std::nullopt;
  /// Gives the data of those tensors that are on the meta device, one at a time: what is written
  /// need not fit into memory.
  std::function<at::Tensor(const std::string& name)> load = nullptr;
};

/// Writes the file as a whole or not at all (AtomicFile). Tensors may be on any device and in any
/// layout; one at a time is copied. The bytes depend only on the tensors, their names and the
/// metadata, not on their order: data is sorted by size of the element, largest first, then by
/// name, so that everything is aligned.
/// @throws Error(kCheckpoint) for a name given twice or reserved, a dtype the format lacks, a
/// failed write
void save_safetensors(const std::string& path, const NamedTensors& tensors,
                      const SafetensorsOptions& options = {});

}  // namespace lorikeet
