#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace lorikeet {

inline constexpr char kManifestFile[] = "manifest.json";
inline constexpr char kTokenizerFile[] = "tokenizer.model";

enum class Split { kTrain = 0, kHeldOut = 1 };

/// Which documents are held out: a function of their text's hash alone, so copies of one text are
/// all on one side, whatever file or domain they stand in.
struct HeldOutRule {
  double fraction = 0;          ///< what was asked for
  uint64_t threshold = 0;       ///< a hash below it is held out: fraction * 2^64
  std::vector<uint64_t> extra;  ///< ascending; further hashes, for domains that would have too few

  Split split(uint64_t hash) const;
  bool operator==(const HeldOutRule&) const = default;
};

struct ShardRecord {
  std::string file;  ///< relative to the folder
  int64_t documents = 0;
  int64_t tokens = 0;
  uint64_t checksum = 0;  ///< of the header, and so of the whole shard
  bool operator==(const ShardRecord&) const = default;
};

/// Counts of one domain; index with static_cast<size_t>(Split).
struct DomainRecord {
  std::string name;
  int64_t documents[2] = {0, 0};
  int64_t tokens[2] = {0, 0};
  bool operator==(const DomainRecord&) const = default;
};

/// manifest.json of a tokenised folder: written last, so a folder that has one is complete.
struct Manifest {
  uint64_t tokenizer_hash = 0;  ///< hash64 of the tokenizer's file
  int64_t vocab_size = 0;
  int32_t bos = -1;  ///< the token in front of every document; -1: none
  int32_t eos = -1;  ///< the token behind every document; -1: none
  std::vector<ShardRecord> shards;
  std::vector<DomainRecord> domains;  ///< in order of first appearance
  HeldOutRule held_out;
  int64_t skipped_lines = 0;  ///< bad input lines left out on request
  std::string made_from;      ///< JSON: inputs and options, compared before a run is resumed

  /// Of all tokens, documents, domains and their split: equal exactly where training would see the
  /// same data.
  uint64_t fingerprint() const;
};

std::string to_json(const Manifest& manifest);
/// @throws Error(kData) where the folder has no manifest, or one of another version or with a
/// broken field
Manifest read_manifest(const std::string& folder);

}  // namespace lorikeet
