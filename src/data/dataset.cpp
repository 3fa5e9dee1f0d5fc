#include "lorikeet/data/dataset.h"

#include <algorithm>
#include <filesystem>
#include <limits>

#include "lorikeet/core/file.h"
#include "lorikeet/core/hash.h"

namespace lorikeet {

Dataset::Dataset(const std::string& folder, Verify verify)
    : folder_(folder), manifest_(read_manifest(folder)), fingerprint_(manifest_.fingerprint()) {
  shards_.reserve(manifest_.shards.size());
  for (const ShardRecord& record : manifest_.shards) {
    open_shard(record);
    if (verify == Verify::kEverything) shards_.back().verify_tokens();
  }
  if (num_documents() == 0) {
    throw Error(ExitCode::kData, fmt::format("{}: holds no documents", folder), "");
  }
  if (num_documents() > std::numeric_limits<DocumentNumber>::max()) {
    throw Error(ExitCode::kData,
                fmt::format("{}: {} documents are more than 2^32 - 1", folder, num_documents()),
                "split the corpus into several folders");
  }
}

void Dataset::verify_tokens(int64_t first, int64_t stride) const {
  for (auto i = static_cast<size_t>(first); i < shards_.size(); i += static_cast<size_t>(stride)) {
    shards_[i].verify_tokens();
  }
}

void Dataset::verify_tokenizer() const {
  const uint64_t hash = hash64(read_text_file(tokenizer_path(), ExitCode::kData));
  if (hash == tokenizer_hash()) return;
  throw Error(ExitCode::kData,
              fmt::format("{}: expected hash {} from {}, found {}", tokenizer_path(),
                          to_hex(tokenizer_hash()), kManifestFile, to_hex(hash)),
              "bring back the tokenizer that made these tokens");
}

void Dataset::open_shard(const ShardRecord& record) {
  const Shard& shard =
      shards_.emplace_back((std::filesystem::path(folder_) / record.file).string());
  if (shard.header().header_checksum != record.checksum) {
    throw Error(
        ExitCode::kData,
        fmt::format("{}: header: expected checksum {} from {}, found {}", shard.path(),
                    to_hex(record.checksum), kManifestFile, to_hex(shard.header().header_checksum)),
        "the shard belongs to another run of `lorikeet data tokenize`: tokenize again");
  }
  std::vector<uint32_t>& rows = domain_rows_.emplace_back();
  for (const std::string& name : shard.domains()) {
    const auto found =
        std::find_if(manifest_.domains.begin(), manifest_.domains.end(),
                     [&](const DomainRecord& domain) { return domain.name == name; });
    if (found == manifest_.domains.end()) {
      throw Error(ExitCode::kData,
                  fmt::format("{}: domain table: domain \"{}\" is not in {}", shard.path(), name,
                              kManifestFile),
                  "tokenize again with --force");
    }
    rows.push_back(static_cast<uint32_t>(found - manifest_.domains.begin()));
  }
  first_documents_.push_back(first_documents_.back() +
                             static_cast<int64_t>(shard.documents().size()));
}

std::string Dataset::tokenizer_path() const {
  return (std::filesystem::path(folder_) / kTokenizerFile).string();
}

int64_t Dataset::num_tokens() const {
  int64_t total = 0;
  for (const ShardRecord& shard : manifest_.shards) {
    total += shard.tokens;
  }
  return total;
}

size_t Dataset::shard_of(int64_t document) const {
  const auto after = std::upper_bound(first_documents_.begin(), first_documents_.end(), document);
  return static_cast<size_t>(after - first_documents_.begin()) - 1;
}

DocumentInfo Dataset::document(int64_t number) const {
  const size_t shard = shard_of(number);
  const DocumentEntry& entry =
      shards_[shard].documents()[static_cast<size_t>(number - first_documents_[shard])];
  return {.hash = entry.hash,
          .num_tokens = entry.num_tokens,
          .domain = domain_rows_[shard][entry.domain],
          .split = manifest_.held_out.split(entry.hash)};
}

std::vector<DocumentNumber> Dataset::documents(Split split, int64_t domain) const {
  std::vector<DocumentNumber> found;
  for (size_t shard = 0; shard < shards_.size(); ++shard) {
    const auto entries = shards_[shard].documents();
    for (size_t i = 0; i < entries.size(); ++i) {
      const bool is_in_domain =
          domain < 0 || domain_rows_[shard][entries[i].domain] == static_cast<uint32_t>(domain);
      if (is_in_domain && manifest_.held_out.split(entries[i].hash) == split) {
        found.push_back(
            static_cast<DocumentNumber>(first_documents_[shard] + static_cast<int64_t>(i)));
      }
    }
  }
  return found;
}

void Dataset::copy_tokens(int64_t document, int64_t first, std::span<int32_t> out) const {
  const size_t shard = shard_of(document);
  const DocumentEntry& entry =
      shards_[shard].documents()[static_cast<size_t>(document - first_documents_[shard])];
  shards_[shard].copy_tokens(entry.first_token + static_cast<uint64_t>(first), out);
}

std::vector<int32_t> Dataset::tokens(int64_t document) const {
  std::vector<int32_t> out(static_cast<size_t>(this->document(document).num_tokens));
  copy_tokens(document, 0, out);
  return out;
}

}  // namespace lorikeet
