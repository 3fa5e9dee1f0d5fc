#include "manifest.h"

#include <nlohmann/json.hpp>

#include "lorikeet/core/error.h"
#include "lorikeet/core/hash.h"

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
  return {{"file", entry.file},
          {"dtype", entry.dtype},
          {"shape", entry.shape},
          {"checksum", entry.checksum}};
}

void check_format(const Json& json, const std::string& path) {
  if (json.at("format") != kFormat) refuse(path, "is not the manifest of a checkpoint");
  const auto version = json.at("version").get<int64_t>();
  if (version == kFormatVersion) return;
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
  for (const auto& [name, entry] : json.at("files").items()) {
    manifest.files[name] = {entry.at("bytes"), entry.at("checked_bytes"), entry.at("checksum")};
  }
  for (const auto& [name, entry] : json.at("tensors").items()) {
    manifest.tensors[name] = {entry.at("file"), entry.at("dtype"), entry.at("shape"),
                              entry.at("checksum")};
  }
  return manifest;
}

}  // namespace

std::string to_text(const Manifest& manifest) {
  Json files = Json::object(), tensors = Json::object();
  for (const auto& [name, entry] : manifest.files) files[name] = to_json(entry);
  for (const auto& [name, entry] : manifest.tensors) tensors[name] = to_json(entry);
  const Json json = {{"format", kFormat},
                     {"version", kFormatVersion},
                     {"step", manifest.step},
                     {"tokens", manifest.tokens},
                     {"sequences", manifest.sequences},
                     {"world_size", manifest.world_size},
                     {"configuration", manifest.configuration},
                     {"code_version", manifest.code_version},
                     {"data_fingerprint", manifest.data_fingerprint},
                     {"files", files},
                     {"tensors", tensors}};
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
    return from_json(json);
  } catch (const Json::exception& error) {
    refuse(path, fmt::format("is not the manifest of a checkpoint ({})", error.what()));
  }
}

}  // namespace lorikeet::checkpoint
