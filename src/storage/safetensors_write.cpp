#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "dtype.h"
#include "json.h"
#include "lorikeet/storage/safetensors.h"

namespace lorikeet {

using storage::Json;

namespace {

struct Entry {
  const std::string* name;
  const at::Tensor* tensor;
  at::ScalarType dtype;
  uint64_t bytes;
};

[[noreturn]] void refuse(const std::string& path, const std::string& name, const std::string& rule,
                         const std::string& hint) {
  throw Error(ExitCode::kCheckpoint, fmt::format("{}: tensor '{}' {}", path, name, rule), hint);
}

Entry make_entry(const std::string& path, const std::string& name, const at::Tensor& tensor,
                 const SafetensorsOptions& options) {
  if (name == "__metadata__") refuse(path, name, "has a reserved name", "give it another name");
  if (!tensor.defined()) refuse(path, name, "is undefined", "leave it out, or give it a value");
  if (tensor.layout() != at::kStrided || (tensor.is_meta() && !options.load)) {
    refuse(path, name, "has no dense data", "make it dense, on a real device, first");
  }
  const bool is_cast = options.dtype && tensor.is_floating_point();
  const at::ScalarType dtype = is_cast ? *options.dtype : tensor.scalar_type();
  if (!storage::name_of_dtype(dtype)) {
    refuse(path, name,
           fmt::format("has dtype {}, which is not one of {}", c10::toString(dtype),
                       storage::supported_dtypes()),
           "convert it to one of these");
  }
  return {&name, &tensor, dtype, static_cast<uint64_t>(tensor.numel()) * c10::elementSize(dtype)};
}

std::vector<Entry> sorted_entries(const std::string& path, const NamedTensors& tensors,
                                  const SafetensorsOptions& options) {
  std::vector<Entry> entries;
  for (const auto& [name, tensor] : tensors) {
    entries.push_back(make_entry(path, name, tensor, options));
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    const auto size_a = c10::elementSize(a.dtype), size_b = c10::elementSize(b.dtype);
    return size_a != size_b ? size_a > size_b : *a.name < *b.name;
  });
  std::vector<std::string> names;
  for (const Entry& entry : entries) names.push_back(*entry.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) {
    refuse(path, *twice, "is given twice", "give each tensor a name of its own");
  }
  return entries;
}

/// The tensor itself, or what `load` gives for it.
at::Tensor data_of(const std::string& path, const Entry& entry, const SafetensorsOptions& options) {
  if (!entry.tensor->is_meta()) return *entry.tensor;
  at::Tensor data = options.load(*entry.name);
  if (data.defined() && !data.is_meta() && data.sizes() == entry.tensor->sizes() &&
      data.scalar_type() == entry.tensor->scalar_type()) {
    return data;
  }
  throw Error(
      ExitCode::kInternal,
      fmt::format("{}: the data that was loaded for tensor '{}' is not of its dtype and shape",
                  path, *entry.name));
}

/// Length and JSON, padded with spaces so that the data begins at a multiple of 8.
std::string make_header(const std::string& path, const std::vector<Entry>& entries,
                        const std::map<std::string, std::string>& metadata) {
  Json json = Json::object();
  if (!metadata.empty()) json["__metadata__"] = metadata;
  uint64_t offset = 0;
  for (const Entry& entry : entries) {
    json[*entry.name] = {{"dtype", *storage::name_of_dtype(entry.dtype)},
                         {"shape", entry.tensor->sizes().vec()},
                         {"data_offsets", {offset, offset + entry.bytes}}};
    offset += entry.bytes;
  }
  std::string text;
  try {
    text = json.dump();
  } catch (const Json::exception&) {
    throw Error(ExitCode::kCheckpoint, path + ": a name or the metadata is not valid UTF-8",
                "use names and metadata in UTF-8");
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + text;
}

}  // namespace

void save_safetensors(const std::string& path, const NamedTensors& tensors,
                      const SafetensorsOptions& options) {
  const at::NoGradGuard no_grad;
  const std::vector<Entry> entries = sorted_entries(path, tensors, options);
  AtomicFile file(path, ExitCode::kCheckpoint);
  file.write(make_header(path, entries, options.metadata));
  for (const Entry& entry : entries) {
    const at::Tensor data =
        data_of(path, entry, options).to(at::kCPU, entry.dtype).resolve_neg().contiguous();
    file.write(data.const_data_ptr(), entry.bytes);
  }
  file.commit();
}

}  // namespace lorikeet
