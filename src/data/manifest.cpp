#include "lorikeet/data/manifest.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "lorikeet/core/error.h"
#include "lorikeet/core/file.h"
#include "lorikeet/core/hash.h"
#include "lorikeet/core/json_problem.h"

namespace lorikeet {

using Json = nlohmann::ordered_json;

namespace {

constexpr char kFormat[] = "lorikeet-tokens";
constexpr int kVersion = 1;

// 64-bit hashes stand as hexadecimal strings: many JSON readers round large numbers.
uint64_t from_hex(const std::string& text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  if (error != std::errc() || end != text.data() + text.size() || text.size() != 16) {
    throw std::invalid_argument(fmt::format("\"{}\" is not a hash of 16 digits", text));
  }
  return value;
}

Json shard_json(const ShardRecord& shard) {
  return {{"file", shard.file},
          {"documents", shard.documents},
          {"tokens", shard.tokens},
          {"checksum", to_hex(shard.checksum)}};
}

Json domain_json(const DomainRecord& domain) {
  return {{"name", domain.name},
          {"train", {{"documents", domain.documents[0]}, {"tokens", domain.tokens[0]}}},
          {"held_out", {{"documents", domain.documents[1]}, {"tokens", domain.tokens[1]}}}};
}

Manifest parse(const Json& json) {
  if (json.at("format") != kFormat || json.at("version") != kVersion) {
    throw std::invalid_argument(fmt::format("expected format {} version {}, found {} version {}",
                                            kFormat, kVersion, json.at("format").dump(),
                                            json.at("version").dump()));
  }
  Manifest manifest;
  manifest.tokenizer_hash = from_hex(json.at("tokenizer_hash"));
  manifest.vocab_size = json.at("vocab_size");
  manifest.bos = json.at("bos");
  manifest.eos = json.at("eos");
  manifest.skipped_lines = json.at("skipped_lines");
  manifest.made_from = json.at("made_from").dump();
  for (const Json& shard : json.at("shards")) {
    manifest.shards.push_back({.file = shard.at("file"),
                               .documents = shard.at("documents"),
                               .tokens = shard.at("tokens"),
                               .checksum = from_hex(shard.at("checksum"))});
  }
  for (const Json& domain : json.at("domains")) {
    DomainRecord record{.name = domain.at("name")};
    for (const auto& [split, name] : {std::pair(0, "train"), std::pair(1, "held_out")}) {
      record.documents[split] = domain.at(name).at("documents");
      record.tokens[split] = domain.at(name).at("tokens");
    }
    manifest.domains.push_back(record);
  }
  const Json& held_out = json.at("held_out");
  manifest.held_out.fraction = held_out.at("fraction");
  manifest.held_out.threshold = from_hex(held_out.at("threshold"));
  for (const Json& hash : held_out.at("extra")) {
    manifest.held_out.extra.push_back(from_hex(hash));
  }
  if (const std::string found = json.at("fingerprint"); found != to_hex(manifest.fingerprint())) {
    throw std::invalid_argument(
        fmt::format("expected fingerprint {} from its own entries, found {}",
                    to_hex(manifest.fingerprint()), found));
  }
  return manifest;
}

}  // namespace

Split HeldOutRule::split(uint64_t hash) const {
  const bool is_held_out = hash < threshold || std::binary_search(extra.begin(), extra.end(), hash);
  return is_held_out ? Split::kHeldOut : Split::kTrain;
}

uint64_t Manifest::fingerprint() const {
  std::string text = fmt::format("tokens {}", kVersion);
  for (const ShardRecord& shard : shards) {
    text += fmt::format(" {}", to_hex(shard.checksum));
  }
  text += fmt::format(" held out {}", to_hex(held_out.threshold));
  for (const uint64_t hash : held_out.extra) {
    text += fmt::format(" {}", to_hex(hash));
  }
  return hash64(text);
}

std::string to_json(const Manifest& manifest) {
  Json shards = Json::array();
  for (const ShardRecord& shard : manifest.shards) {
    shards.push_back(shard_json(shard));
  }
  Json domains = Json::array();
  for (const DomainRecord& domain : manifest.domains) {
    domains.push_back(domain_json(domain));
  }
  Json extra = Json::array();
  for (const uint64_t hash : manifest.held_out.extra) {
    extra.push_back(to_hex(hash));
  }
  const Json json = {{"format", kFormat},
                     {"version", kVersion},
                     {"fingerprint", to_hex(manifest.fingerprint())},
                     {"tokenizer_hash", to_hex(manifest.tokenizer_hash)},
                     {"vocab_size", manifest.vocab_size},
                     {"bos", manifest.bos},
                     {"eos", manifest.eos},
                     {"skipped_lines", manifest.skipped_lines},
                     {"domains", domains},
                     {"held_out",
                      {{"fraction", manifest.held_out.fraction},
                       {"threshold", to_hex(manifest.held_out.threshold)},
                       {"extra", extra}}},
                     {"shards", shards},
                     {"made_from", Json::parse(manifest.made_from)}};
  return json.dump(2) + "\n";
}

Manifest read_manifest(const std::string& folder) {
  const std::string path = (std::filesystem::path(folder) / kManifestFile).string();
  if (!std::filesystem::exists(path)) {
    const bool is_there = std::filesystem::exists(folder);
    throw Error(ExitCode::kData,
                is_there ? fmt::format("{}: there is no {} in this folder", folder, kManifestFile)
                         : fmt::format("{}: there is no such folder of token shards", folder),
                "make one with `lorikeet data tokenize --output " + folder +
                    " ...`; the same command continues a run that was stopped");
  }
  const std::string text = read_text_file(path, ExitCode::kData);
  std::string problem;
  try {
    return parse(Json::parse(text));
  } catch (const Json::exception& error) {
    problem = json_problem(error);
  } catch (const std::invalid_argument& error) {
    problem = error.what();
  }
  throw Error(ExitCode::kData, fmt::format("{}: {}", path, problem),
              "the manifest was changed or is from another version: tokenize again with --force");
}

}  // namespace lorikeet
