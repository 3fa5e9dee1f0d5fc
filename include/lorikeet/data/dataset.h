#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "lorikeet/data/manifest.h"
#include "lorikeet/data/shard.h"

namespace lorikeet {

/// Number of a document in a dataset: shard by shard, in the order of the input.
using DocumentNumber = uint32_t;

struct DocumentInfo {
  uint64_t hash = 0;  ///< of the text
  int64_t num_tokens = 0;
  size_t domain = 0;  ///< row of Dataset::domains()
  Split split = Split::kTrain;
};

/// All shards of a folder that `lorikeet data tokenize` completed, mapped read-only. Safe to read
/// from several threads.
class Dataset {
 public:
  enum class Verify { kTables, kEverything };

  /// @throws Error(kData) naming file and section for anything missing, cut short, foreign or
  /// changed
  explicit Dataset(const std::string& folder, Verify verify = Verify::kEverything);

  /// Verifies the tokens of every `stride`-th shard from `first` on: what is left of kEverything.
  /// @throws Error(kData)
  void verify_tokens(int64_t first = 0, int64_t stride = 1) const;

  /// Verifies the tokenizer's model beside the shards.
  /// @throws Error(kData) where it is missing or not that of the tokens
  void verify_tokenizer() const;

  const std::string& folder() const { return folder_; }
  const Manifest& manifest() const { return manifest_; }
  uint64_t fingerprint() const { return fingerprint_; }
  uint64_t tokenizer_hash() const { return manifest_.tokenizer_hash; }
  int64_t vocab_size() const { return manifest_.vocab_size; }
  const std::vector<DomainRecord>& domains() const { return manifest_.domains; }
  /// Path of the tokenizer's model that was copied next to the shards.
  std::string tokenizer_path() const;

  int64_t num_documents() const { return first_documents_.back(); }
  int64_t num_tokens() const;
  DocumentInfo document(int64_t number) const;
  /// The documents of one split in ascending order, of one domain or of all (-1).
  std::vector<DocumentNumber> documents(Split split, int64_t domain = -1) const;
  /// Copies tokens [first, first + out.size()) of a document; the range must lie inside.
  void copy_tokens(int64_t document, int64_t first, std::span<int32_t> out) const;
  std::vector<int32_t> tokens(int64_t document) const;

 private:
  void open_shard(const ShardRecord& record);
  size_t shard_of(int64_t document) const;

  std::string folder_;
  Manifest manifest_;
  uint64_t fingerprint_ = 0;
  std::vector<Shard> shards_;
  std::vector<int64_t> first_documents_ = {0};      ///< of each shard, and the end
  std::vector<std::vector<uint32_t>> domain_rows_;  ///< per shard: its domain -> row of domains()
};

}  // namespace lorikeet
