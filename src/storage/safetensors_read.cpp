#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <filesystem>
#include <limits>

#include "dtype.h"
#include "json.h"
#include "lorikeet/storage/safetensors.h"

namespace lorikeet {

using storage::Json;
using storage::shown;

namespace {

static_assert(std::endian::native == std::endian::little, "safetensors are little-endian");

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr int kHeaderDepth = 3;                    // {name: {shape: [...]}}

// Every rule of the format is broken by the same two mishaps.
constexpr const char* kDamagedHint =
    "the file is damaged, or its writer does not keep to the format: fetch or write it again";

[[noreturn]] void refuse(const std::string& what, const std::string& rule,
                         const std::string& hint = kDamagedHint) {
  throw Error(ExitCode::kCheckpoint, what + ": " + rule, hint);
}

/// Common files that are no safetensors get a message of their own.
void refuse_other_formats(const std::string& path, std::string_view text) {
  const std::string extension = std::filesystem::path(path).extension().string();
  const bool is_named_pickle = extension == ".bin" || extension == ".pt" || extension == ".pth" ||
                               extension == ".pkl" || extension == ".ckpt";
  const bool is_zip = text.starts_with(std::string_view("PK\3\4", 4));
  const bool is_pickle = text.size() > 2 && text[0] == '\x80' && text[1] >= 2 && text[1] <= 5;
  // Both could be the length of a header; then the header follows.
  const bool is_header = text.size() > kLengthBytes && text[kLengthBytes] == '{';
  if (is_named_pickle || ((is_zip || is_pickle) && !is_header)) {
    refuse(path, "is a pickled PyTorch file, and reading one may run arbitrary code",
           "convert it to safetensors with a tool you trust, on a machine you can lose");
  }
  if (text.starts_with("version https://git-lfs")) {
    refuse(path, "is a Git LFS pointer, not the file itself", "run: git lfs pull");
  }
}

/// A whole number that is not negative and fits int64.
std::optional<int64_t> as_count(const Json& value) {
  if (!value.is_number_unsigned()) return std::nullopt;
  const auto number = value.get<uint64_t>();
  if (number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
  return static_cast<int64_t>(number);
}

std::vector<int64_t> parse_counts(const std::string& tensor, const Json& entry, const char* key) {
  const auto found = entry.find(key);
  if (found == entry.end()) refuse(tensor, fmt::format("has no {}", key));
  if (!found->is_array()) {
    refuse(tensor, fmt::format("{} {} is not a list of numbers", key, shown(*found)));
  }
  std::vector<int64_t> counts;
  for (const Json& value : *found) {
    const auto count = as_count(value);
    if (!count) {
      refuse(tensor, fmt::format("{} {} holds {}, which is not a whole number from 0 to 2^63-1",
                                 key, shown(*found), shown(value)));
    }
    counts.push_back(*count);
  }
  return counts;
}

uint64_t bytes_needed(const std::string& tensor, const std::vector<int64_t>& shape,
                      at::ScalarType dtype) {
  auto bytes = static_cast<int64_t>(c10::elementSize(dtype));
  bool is_empty = false;
  for (const int64_t size : shape) {
    is_empty = is_empty || size == 0;
    // Sizes beside a 0 must not overflow either: strides are made of them.
    if (__builtin_mul_overflow(bytes, std::max<int64_t>(size, 1), &bytes)) {
      refuse(tensor, fmt::format("shape {} needs more than 2^63 bytes", shape_text(shape)));
    }
  }
  return is_empty ? 0 : static_cast<uint64_t>(bytes);
}

/// One entry of the header; offsets are still relative to the data.
TensorInfo parse_entry(const std::string& tensor, const Json& entry, uint64_t data_bytes) {
  if (!entry.is_object()) refuse(tensor, shown(entry) + " is not an object");
  const auto dtype_value = entry.find("dtype");
  if (dtype_value == entry.end()) refuse(tensor, "has no dtype");
  const auto dtype = dtype_value->is_string()
                         ? storage::dtype_of_name(dtype_value->get_ref<const std::string&>())
                         : std::nullopt;
  if (!dtype) {
    refuse(
        tensor,
        fmt::format("dtype {} is not one of {}", shown(*dtype_value), storage::supported_dtypes()),
        "convert the tensor to one of these");
  }
  TensorInfo info{*dtype, parse_counts(tensor, entry, "shape")};
  const auto offsets = parse_counts(tensor, entry, "data_offsets");
  if (offsets.size() != 2 || offsets[0] > offsets[1]) {
    refuse(tensor,
           fmt::format("data_offsets {} are not a begin and an end after it", shape_text(offsets)));
  }
  info.offset = static_cast<uint64_t>(offsets[0]);
  info.bytes = static_cast<uint64_t>(offsets[1] - offsets[0]);
  if (static_cast<uint64_t>(offsets[1]) > data_bytes) {
    refuse(tensor,
           fmt::format("data_offsets {} end beyond the {} bytes of data in the file",
                       shape_text(offsets), data_bytes),
           "the file is truncated; fetch it again");
  }
  const uint64_t needed = bytes_needed(tensor, info.shape, info.dtype);
  if (needed != info.bytes) {
    refuse(tensor, fmt::format("{} needs {} bytes, but data_offsets {} hold {}", to_string(info),
                               needed, shape_text(offsets), info.bytes));
  }
  return info;
}

/// The format wants the data without overlaps and holes, up to the last byte of the file.
void check_layout(const std::string& path, const std::map<std::string, TensorInfo>& tensors,
                  uint64_t data_bytes) {
  std::vector<const std::pair<const std::string, TensorInfo>*> order;
  for (const auto& entry : tensors) order.push_back(&entry);
  std::sort(order.begin(), order.end(), [](auto* a, auto* b) {
    return std::pair(a->second.offset, a->second.bytes) <
           std::pair(b->second.offset, b->second.bytes);
  });
  uint64_t end = 0;
  for (const auto* entry : order) {
    const auto& [name, info] = *entry;
    if (info.offset != end) {
      refuse(fmt::format("{}: tensor '{}'", path, name),
             fmt::format("its data begins at {}, {} of the tensor before it ({})", info.offset,
                         info.offset < end ? "within that" : "after a hole behind that", end));
    }
    end = info.offset + info.bytes;
  }
  if (end != data_bytes) {
    refuse(path, fmt::format("the tensors hold {} bytes, but the file has {} bytes of data", end,
                             data_bytes));
  }
}

/// The header's JSON, bounds checked.
std::string_view header_text(const std::string& path, std::string_view text) {
  if (text.empty()) refuse(path, "is empty, a safetensors file is needed");
  refuse_other_formats(path, text);
  if (text.size() < kLengthBytes) {
    refuse(path, fmt::format("has {} bytes, too few for a safetensors file", text.size()));
  }
  uint64_t length = 0;
  std::memcpy(&length, text.data(), kLengthBytes);
  if (length > text.size() - kLengthBytes) {
    refuse(path,
           fmt::format("says its header has {} bytes, but the file has {}", length, text.size()),
           "it is truncated, or not a safetensors file: fetch it again");
  }
  if (length > kMaxHeaderBytes) {
    refuse(path,
           fmt::format("its header has {} bytes, the format allows {}", length, kMaxHeaderBytes));
  }
  const std::string_view header = text.substr(kLengthBytes, length);
  if (!header.starts_with('{')) refuse(path, "its header does not begin with '{'");
  return header;
}

std::map<std::string, std::string> parse_metadata(const std::string& path, const Json& value) {
  if (!value.is_object()) refuse(path, "__metadata__ is not an object of strings");
  std::map<std::string, std::string> metadata;
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string()) {
      refuse(path, fmt::format("__metadata__ '{}' is {}, not a string", key, shown(text)));
    }
    metadata[key] = text.get<std::string>();
  }
  return metadata;
}

void check_booleans(const std::string& tensor, const void* data, uint64_t bytes) {
  const auto* values = static_cast<const uint8_t*>(data);
  for (uint64_t i = 0; i < bytes; ++i) {
    if (values[i] > 1) {
      refuse(tensor, fmt::format("element {} of a BOOL is {}, not 0 or 1", i, values[i]));
    }
  }
}

}  // namespace

std::string shape_text(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

std::string to_string(const TensorInfo& info) {
  return storage::name_of_dtype(info.dtype).value_or("?") + " " + shape_text(info.shape);
}

SafetensorsFile::SafetensorsFile(const std::string& path)
    : map_(std::make_shared<const MappedFile>(path, ExitCode::kCheckpoint)) {
  const std::string_view header = header_text(path, map_->text());
  const uint64_t data_begin = kLengthBytes + header.size();
  const uint64_t data_bytes = map_->size() - data_begin;
  const Json json = storage::parse_json_object(header, path + ": the header", kHeaderDepth);
  for (const auto& [name, entry] : json.items()) {
    if (name == "__metadata__") {
      metadata_ = parse_metadata(path, entry);
    } else {
      tensors_[name] = parse_entry(fmt::format("{}: tensor '{}'", path, name), entry, data_bytes);
    }
  }
  check_layout(path, tensors_, data_bytes);
  for (auto& [name, info] : tensors_) info.offset += data_begin;
}

std::vector<std::string> SafetensorsFile::names() const {
  std::vector<std::string> names;
  for (const auto& entry : tensors_) names.push_back(entry.first);
  return names;
}

const TensorInfo& SafetensorsFile::info(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    refuse(path(), fmt::format("has no tensor '{}'", name),
           "the file is of another model or run: check its path");
  }
  return found->second;
}

at::Tensor SafetensorsFile::load(const std::string& name) const {
  const TensorInfo& found = info(name);
  const std::byte* data = map_->data() + found.offset;
  if (found.dtype == at::kBool) {
    check_booleans(fmt::format("{}: tensor '{}'", path(), name), data, found.bytes);
  }
  at::Tensor tensor = at::empty(found.shape, found.dtype);
  if (found.bytes > 0) std::memcpy(tensor.mutable_data_ptr(), data, found.bytes);
  return tensor;
}

at::Tensor SafetensorsFile::view(const std::string& name) const {
  const TensorInfo& found = info(name);
  const bool is_aligned =
      found.offset % c10::elementSize(found.dtype) == 0;  // maps begin at a page
  if (!is_aligned || found.dtype == at::kBool || found.bytes == 0) return load(name);
  // from_blob wants a pointer it may write through; the contract of view() is that nobody does.
  auto* data = const_cast<std::byte*>(map_->data() + found.offset);
  return at::from_blob(
      data, found.shape, [map = map_](void*) {}, found.dtype);
}

}  // namespace lorikeet
