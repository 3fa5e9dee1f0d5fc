#include "lorikeet/data/shard.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "lorikeet/core/error.h"
#include "lorikeet/core/hash.h"

namespace lorikeet {

static_assert(std::endian::native == std::endian::little, "shards are read in place");

namespace {

constexpr char kMagic[9] = "LKSHARD\n";
constexpr uint32_t kVersion = 1;
constexpr uint64_t kHeaderBytes = sizeof(ShardHeader);

uint64_t header_checksum(const ShardHeader& header) {
  return hash64(&header, kHeaderBytes - sizeof(uint64_t));
}

// The document table starts at a multiple of 8, so that it can be read where it is mapped.
uint64_t padded(uint64_t bytes) { return (bytes + 7) / 8 * 8; }

// Multiplications with numbers from a file must not wrap round.
bool fits(uint64_t count, uint64_t bytes_each, uint64_t available) {
  return count <= available / bytes_each;
}

}  // namespace

ShardBuilder::ShardBuilder(int64_t vocab_size, uint64_t tokenizer_hash)
    : vocab_size_(static_cast<uint64_t>(vocab_size)),
      tokenizer_hash_(tokenizer_hash),
      token_bytes_(vocab_size <= 65536 ? 2 : 4) {}

uint32_t ShardBuilder::domain_row(std::string_view domain) {
  const auto found = domain_rows_.find(domain);
  if (found != domain_rows_.end()) {
    return found->second;
  }
  const uint32_t row = static_cast<uint32_t>(domains_.size());
  domains_.emplace_back(domain);
  domain_rows_.emplace(domain, row);
  return row;
}

void ShardBuilder::add(std::span<const int32_t> tokens, std::string_view domain, uint64_t hash) {
  documents_.push_back({.first_token = static_cast<uint64_t>(num_tokens_),
                        .hash = hash,
                        .num_tokens = static_cast<uint32_t>(tokens.size()),
                        .domain = domain_row(domain)});
  const size_t begin = tokens_.size();
  tokens_.resize(begin + tokens.size() * token_bytes_);
  char* out = tokens_.data() + begin;
  for (const int32_t token : tokens) {
    std::memcpy(out, &token, token_bytes_);  // little-endian: the low bytes come first
    out += token_bytes_;
  }
  num_tokens_ += static_cast<int64_t>(tokens.size());
}

uint64_t ShardBuilder::write(const std::string& path) {
  tokens_.resize(padded(tokens_.size()), '\0');
  std::string domains;
  for (const std::string& domain : domains_) {
    const uint32_t size = static_cast<uint32_t>(domain.size());
    domains.append(reinterpret_cast<const char*>(&size), sizeof size).append(domain);
  }
  const size_t documents_bytes = documents_.size() * sizeof(DocumentEntry);
  ShardHeader header{};
  std::memcpy(header.magic, kMagic, sizeof header.magic);
  header.version = kVersion;
  header.token_bytes = token_bytes_;
  header.num_tokens = static_cast<uint64_t>(num_tokens_);
  header.num_documents = documents_.size();
  header.domain_bytes = domains.size();
  header.num_domains = domains_.size();
  header.vocab_size = vocab_size_;
  header.tokenizer_hash = tokenizer_hash_;
  header.tokens_checksum = hash64(tokens_.data(), tokens_.size());
  header.documents_checksum = hash64(documents_.data(), documents_bytes);
  header.domains_checksum = hash64(domains);
  header.header_checksum = header_checksum(header);

  AtomicFile file(path, ExitCode::kData);
  file.write(&header, sizeof header);
  file.write(tokens_.data(), tokens_.size());
  file.write(documents_.data(), documents_bytes);
  file.write(domains);
  file.commit();
  num_tokens_ = 0;
  tokens_.clear();
  documents_.clear();
  domains_.clear();
  domain_rows_.clear();
  return header.header_checksum;
}

Shard::Shard(const std::string& path) : file_(path, ExitCode::kData) {
  read_header();
  read_documents();
  read_domains();
}

void Shard::refuse(const std::string& section, const std::string& what) const {
  throw Error(
      ExitCode::kData, fmt::format("{}: {}: {}", path(), section, what),
      "the file is damaged or was not made by this program: tokenize again, or copy it again");
}

std::string_view Shard::section(uint64_t begin, uint64_t size) const {
  return file_.text().substr(begin, size);
}

void Shard::read_header() {
  if (file_.size() < kHeaderBytes) {
    refuse("header", fmt::format("expected {} bytes, found {}", kHeaderBytes, file_.size()));
  }
  std::memcpy(&header_, file_.data(), kHeaderBytes);
  if (std::memcmp(header_.magic, kMagic, sizeof header_.magic) != 0) {
    std::string found;
    for (const char byte : header_.magic) {
      found += fmt::format("{:02x}", static_cast<unsigned char>(byte));
    }
    refuse("header", fmt::format("expected the magic \"LKSHARD\", found the bytes {}", found));
  }
  if (header_.version != kVersion) {
    refuse("header",
           fmt::format("expected format version {}, found {}", kVersion, header_.version));
  }
  if (const uint64_t found = header_checksum(header_); found != header_.header_checksum) {
    refuse("header", fmt::format("expected checksum {}, found {}", to_hex(header_.header_checksum),
                                 to_hex(found)));
  }
  if (header_.token_bytes != 2 && header_.token_bytes != 4) {
    refuse("header", fmt::format("expected 2 or 4 bytes a token, found {}", header_.token_bytes));
  }
  const uint64_t available = file_.size();
  if (!fits(header_.num_tokens, header_.token_bytes, available) ||
      !fits(header_.num_documents, sizeof(DocumentEntry), available) ||
      header_.domain_bytes > available ||
      file_.size() != kHeaderBytes + padded(header_.num_tokens * header_.token_bytes) +
                          header_.num_documents * sizeof(DocumentEntry) + header_.domain_bytes) {
    refuse("file",
           fmt::format("the header speaks of {} tokens of {} bytes, {} documents and {} bytes "
                       "of domain names, which is not the file's size of {} bytes: cut short?",
                       header_.num_tokens, header_.token_bytes, header_.num_documents,
                       header_.domain_bytes, file_.size()));
  }
}

void Shard::read_documents() {
  const uint64_t begin = kHeaderBytes + padded(header_.num_tokens * header_.token_bytes);
  const std::string_view bytes = section(begin, header_.num_documents * sizeof(DocumentEntry));
  if (const uint64_t found = hash64(bytes); found != header_.documents_checksum) {
    refuse("document table", fmt::format("expected checksum {}, found {}",
                                         to_hex(header_.documents_checksum), to_hex(found)));
  }
  documents_ = {reinterpret_cast<const DocumentEntry*>(bytes.data()), header_.num_documents};
  uint64_t next = 0;
  for (size_t i = 0; i < documents_.size(); ++i) {
    const DocumentEntry& document = documents_[i];
    if (document.first_token != next || document.domain >= header_.num_domains) {
      refuse("document table",
             fmt::format("document {}: expected to start at token {} with a domain below {}, found "
                         "token {} and domain {}",
                         i, next, header_.num_domains, document.first_token, document.domain));
    }
    next += document.num_tokens;
  }
  if (next != header_.num_tokens) {
    refuse("document table",
           fmt::format("expected {} tokens in all documents, found {}", header_.num_tokens, next));
  }
}

void Shard::read_domains() {
  std::string_view bytes = section(file_.size() - header_.domain_bytes, header_.domain_bytes);
  if (const uint64_t found = hash64(bytes); found != header_.domains_checksum) {
    refuse("domain table", fmt::format("expected checksum {}, found {}",
                                       to_hex(header_.domains_checksum), to_hex(found)));
  }
  while (bytes.size() >= sizeof(uint32_t)) {
    uint32_t size = 0;
    std::memcpy(&size, bytes.data(), sizeof size);
    bytes.remove_prefix(sizeof size);
    domains_.emplace_back(bytes.substr(0, size));
    bytes.remove_prefix(std::min<size_t>(size, bytes.size()));
  }
  if (domains_.size() != header_.num_domains || !bytes.empty()) {
    refuse("domain table",
           fmt::format("expected {} names, found {}", header_.num_domains, domains_.size()));
  }
}

void Shard::verify_tokens() const {
  const std::string_view bytes =
      section(kHeaderBytes, padded(header_.num_tokens * header_.token_bytes));
  if (const uint64_t found = hash64(bytes); found != header_.tokens_checksum) {
    refuse("tokens", fmt::format("expected checksum {}, found {}", to_hex(header_.tokens_checksum),
                                 to_hex(found)));
  }
}

void Shard::copy_tokens(uint64_t first, std::span<int32_t> out) const {
  const char* tokens = file_.text().data() + kHeaderBytes;
  if (header_.token_bytes == 2) {
    const uint16_t* begin = reinterpret_cast<const uint16_t*>(tokens) + first;
    std::copy(begin, begin + out.size(), out.begin());
  } else {
    std::memcpy(out.data(), tokens + first * sizeof(int32_t), out.size_bytes());
  }
}

}  // namespace lorikeet
