#include "manifest.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "lorikeet/core/error.h"
#include "lorikeet/core/hash.h"
#include "lorikeet/core/json_problem.h"

namespace lorikeet::checkpoint {
namespace {

using Json = nlohmann::json;

constexpr const char* kFormat = "lorikeet checkpoint";
constexpr size_t kChecksumDigits = 16;
constexpr std::string_view kSealBegin = ",\n  \"checksum\": \"";
constexpr std::string_view kSealEnd = "\"\n}\n";

[[noreturn]] void refuse(const std::string& path, const std::string& rule,
                         const std::string& hint = "the checkpoint is damaged; use another one") {
  throw Error(ExitCode::kCheckpoint, path + ": " + rule, hint);
}

/// The text before the checksum, which must be right.
std::string_view unsealed(std::string_view text, const std::string& path) {
  const size_t seal_size = kSealBegin.size() + kChecksumDigits + kSealEnd.size();
  if (text.size() < seal_size) refuse(path, "is cut short");
  const std::string_view body = text.substr(0, text.size() - seal_size);
  const std::string_view seal = text.substr(body.size());
  if (!seal.starts_with(kSealBegin) || !seal.ends_with(kSealEnd)) {
    refuse(path, "does not end with its checksum: it is cut short or was changed");
  }
  const std::string_view expected = seal.substr(kSealBegin.size(), kChecksumDigits);
  const std::string found = to_hex(hash64(body));
  if (found != expected) {
    refuse(path, fmt::format("checksum is {}, expected {}: it was changed", found, expected));
  }
  return body;
}

Json to_json(const FileEntry& entry) {
  return {
      {"bytes", entry.bytes}, {"checked_bytes", entry.checked_bytes}, {"checksum", entry.checksum}};
}

Json to_json(const TensorEntry& entry) {
  Json pieces = Json::array();
  for (const PieceEntry& piece : entry.pieces) {
    pieces.push_back({{"file", piece.file},
                      {"begin", piece.begin},
                      {"numel", piece.numel},
                      {"checksum", piece.checksum}});
  }
  return {{"dtype", entry.dtype}, {"shape", entry.shape}, {"pieces", pieces}};
}

/// "files" and "tensors" of a manifest or a part of one.
Json contents_to_json(const Manifest& manifest) {
  Json files = Json::object(), tensors = Json::object();
  for (const auto& [name, entry] : manifest.files) files[name] = to_json(entry);
  for (const auto& [name, entry] : manifest.tensors) tensors[name] = to_json(entry);
  return {{"files", files}, {"tensors", tensors}};
}

void contents_from_json(const Json& json, Manifest& manifest) {
  for (const auto& [name, entry] : json.at("files").items()) {
    manifest.files[name] = {entry.at("bytes"), entry.at("checked_bytes"), entry.at("checksum")};
  }
  for (const auto& [name, entry] : json.at("tensors").items()) {
    TensorEntry& tensor = manifest.tensors[name] = {entry.at("dtype"), entry.at("shape"), {}};
    for (const Json& piece : entry.at("pieces")) {
      tensor.pieces.push_back(
          {piece.at("file"), piece.at("begin"), piece.at("numel"), piece.at("checksum")});
    }
  }
}

int64_t num_elements(const TensorEntry& entry) {
  return std::accumulate(entry.shape.begin(), entry.shape.end(), int64_t{1}, std::multiplies<>());
}

std::string describe(const TensorEntry& entry) {
  return fmt::format("{} [{}]", entry.dtype, fmt::join(entry.shape, ", "));
}

/// The first element that no piece holds or two do, as a clause; pieces are in order.
std::string tiling_problem(const TensorEntry& entry) {
  int64_t end = 0;
  std::string before;
  for (const PieceEntry& piece : entry.pieces) {
    if (piece.begin > end) {
      return fmt::format("elements {} to {} are in no rank's piece", end, piece.begin - 1);
    }
    if (piece.begin < end) {
      return fmt::format("element {} is in two pieces, in {} and {}", piece.begin, before,
                         piece.file);
    }
    end += piece.numel;
    before = piece.file;
  }
  const int64_t total = num_elements(entry);
  if (end < total) return fmt::format("elements {} to {} are in no rank's piece", end, total - 1);
  if (end > total) return fmt::format("the pieces hold {} elements of {}", end, total);
  return "";
}

void check_format(const Json& json, const std::string& path) {
  if (json.at("format") != kFormat) refuse(path, "is not the manifest of a checkpoint");
  const auto version = json.at("version").get<int64_t>();
  if (version == kFormatVersion) return;
  if (version == 1) {  // whole tensors in one file
    refuse(path, fmt::format("has format version 1, this program reads {} only", kFormatVersion),
           "version 1 was never released: finish the run with the program that began it");
  }
  refuse(path, fmt::format("has format version {}, this program reads {}", version, kFormatVersion),
         "use the version of lorikeet that wrote it");
}

Manifest from_json(const Json& json) {
  Manifest manifest;
  json.at("step").get_to(manifest.step);
  json.at("tokens").get_to(manifest.tokens);
  json.at("sequences").get_to(manifest.sequences);
  json.at("world_size").get_to(manifest.world_size);
  json.at("configuration").get_to(manifest.configuration);
  json.at("code_version").get_to(manifest.code_version);
  json.at("data_fingerprint").get_to(manifest.data_fingerprint);
  contents_from_json(json, manifest);
  return manifest;
}

}  // namespace

bool TensorEntry::is_whole(const PieceEntry& piece) const {
  return piece.numel == num_elements(*this);
}

std::string stored_name(const std::string& tensor, const TensorEntry& entry,
                        const PieceEntry& piece) {
  return entry.is_whole(piece) ? tensor : fmt::format("{}@{}", tensor, piece.begin);
}

std::string order_pieces(Manifest& manifest) {
  for (auto& [name, entry] : manifest.tensors) {
    std::sort(entry.pieces.begin(), entry.pieces.end(),
              [](const PieceEntry& a, const PieceEntry& b) {
                return std::pair(a.begin, a.numel) < std::pair(b.begin, b.numel);
              });
    const std::string problem = tiling_problem(entry);
    if (!problem.empty()) return fmt::format("tensor '{}' {}: {}", name, describe(entry), problem);
  }
  return "";
}

std::string part_text(const Manifest& part) { return contents_to_json(part).dump(); }

void add_tensor(Manifest& manifest, const std::string& name, const TensorEntry& entry) {
  const auto [known, is_new] = manifest.tensors.try_emplace(name, entry);
  if (is_new) return;
  TensorEntry& first = known->second;
  if (first.dtype != entry.dtype || first.shape != entry.shape) {
    throw Error(
        ExitCode::kInternal,
        fmt::format("checkpoint: tensor '{}' is {} in {}, but {} in {}", name, describe(first),
                    first.pieces.front().file, describe(entry), entry.pieces.front().file));
  }
  first.pieces.insert(first.pieces.end(), entry.pieces.begin(), entry.pieces.end());
}

void add_part(Manifest& manifest, const std::string& text) {
  Manifest part;
  contents_from_json(Json::parse(text), part);
  manifest.files.insert(part.files.begin(), part.files.end());
  for (const auto& [name, entry] : part.tensors) add_tensor(manifest, name, entry);
}

std::string to_text(const Manifest& manifest) {
  Json json = {{"format", kFormat},
               {"version", kFormatVersion},
               {"step", manifest.step},
               {"tokens", manifest.tokens},
               {"sequences", manifest.sequences},
               {"world_size", manifest.world_size},
               {"configuration", manifest.configuration},
               {"code_version", manifest.code_version},
               {"data_fingerprint", manifest.data_fingerprint}};
  json.update(contents_to_json(manifest));
  // A configuration of any bytes must not stop a save.
  std::string text = json.dump(2, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
  text.resize(text.size() - 2);  // "\n}"
  const std::string checksum = to_hex(hash64(text));
  return fmt::format("{}{}{}{}", text, kSealBegin, checksum, kSealEnd);
}

Manifest parse_manifest(std::string_view text, const std::string& path) {
  const std::string_view body = unsealed(text, path);
  try {
    const Json json = Json::parse(std::string(body) + "\n}");
    check_format(json, path);
    Manifest manifest = from_json(json);
    const std::string problem = order_pieces(manifest);
    if (!problem.empty()) refuse(path, problem);
    return manifest;
  } catch (const Json::exception& error) {
    refuse(path, fmt::format("is not the manifest of a checkpoint: it {}", json_problem(error)));
  }
}

}  // namespace lorikeet::checkpoint
