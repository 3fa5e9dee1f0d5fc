#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lorikeet/core/file.h"

namespace lorikeet {

// A token shard is one file: header, tokens, document table, domain table (docs/data.md, byte for
// byte; little-endian). The header's checksum covers the checksums of the three sections, so it
// stands for the whole file.

/// One document of a shard, as it stands in the file.
struct DocumentEntry {
  uint64_t first_token = 0;  ///< from the start of the shard; documents lie one behind the other
  uint64_t hash = 0;         ///< hash64 of the document's UTF-8 text
  uint32_t num_tokens = 0;   ///< BOS and EOS included
  uint32_t domain = 0;       ///< row of the shard's domain table
};
static_assert(sizeof(DocumentEntry) == 24);

/// The first 128 bytes of a shard.
struct ShardHeader {
  char magic[8];
  uint32_t version;
  uint32_t token_bytes;  ///< 2 (vocabularies up to 65,536) or 4
  uint64_t num_tokens;
  uint64_t num_documents;
  uint64_t domain_bytes;  ///< size of the domain table
  uint64_t num_domains;
  uint64_t vocab_size;
  uint64_t tokenizer_hash;
  uint64_t tokens_checksum;
  uint64_t documents_checksum;
  uint64_t domains_checksum;
  uint64_t reserved[4];
  uint64_t header_checksum;  ///< hash64 of the 120 bytes before it
};
static_assert(sizeof(ShardHeader) == 128);

/// Collects documents in memory and writes them as one shard.
class ShardBuilder {
 public:
  ShardBuilder(int64_t vocab_size, uint64_t tokenizer_hash);

  /// @param tokens ids in [0, vocab_size), at least one
  void add(std::span<const int32_t> tokens, std::string_view domain, uint64_t hash);
  int64_t num_tokens() const { return num_tokens_; }
  int64_t num_documents() const { return static_cast<int64_t>(documents_.size()); }

  /// Writes the file atomically and starts the next one. @return the header checksum
  uint64_t write(const std::string& path);

 private:
  uint32_t domain_row(std::string_view domain);

  uint64_t vocab_size_;
  uint64_t tokenizer_hash_;
  uint32_t token_bytes_;
  int64_t num_tokens_ = 0;
  std::vector<char> tokens_;
  std::vector<DocumentEntry> documents_;
  std::vector<std::string> domains_;
  std::map<std::string, uint32_t, std::less<>> domain_rows_;
};

/// A shard, mapped read-only.
class Shard {
 public:
  /// Checks magic, version, sizes, the header and both tables. @throws Error(kData) naming the
  /// file, the section, what was expected and what was found
  explicit Shard(const std::string& path);
  /// Checks the tokens' checksum too (reads the whole file, about 10 GB/s once it is in memory).
  void verify_tokens() const;

  const std::string& path() const { return file_.path(); }
  const ShardHeader& header() const { return header_; }
  std::span<const DocumentEntry> documents() const { return documents_; }
  const std::vector<std::string>& domains() const { return domains_; }
  /// Copies tokens [first, first + out.size()) of the shard; the range must lie inside.
  void copy_tokens(uint64_t first, std::span<int32_t> out) const;

 private:
  void read_header();
  void read_documents();
  void read_domains();
  std::string_view section(uint64_t begin, uint64_t size) const;
  [[noreturn]] void refuse(const std::string& section, const std::string& what) const;

  MappedFile file_;
  ShardHeader header_;
  std::span<const DocumentEntry> documents_;
  std::vector<std::string> domains_;
};

}  // namespace lorikeet
