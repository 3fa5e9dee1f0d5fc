#include "lorikeet/data/order_file.h"

#include <cstring>

#include "lorikeet/core/file.h"
#include "lorikeet/core/hash.h"

namespace lorikeet {

namespace {

constexpr char kMagic[9] = "LKORDER\n";
constexpr uint64_t kVersion = 2;

struct Header {
  char magic[8];
  uint64_t version;
  uint64_t fingerprint;  ///< of the dataset
  uint64_t count;        ///< documents in order
  uint64_t num_dropped;  ///< documents behind them that are left out
  uint64_t documents_checksum;
  uint64_t header_checksum;  ///< hash64 of the 48 bytes before it
};
static_assert(sizeof(Header) == 56);

uint64_t header_checksum(const Header& header) {
  return hash64(&header, sizeof header - sizeof(uint64_t));
}

[[noreturn]] void refuse(const std::string& path, const std::string& what) {
  throw Error(ExitCode::kData, fmt::format("{}: {}", path, what),
              "make the order again for this data: lorikeet data batch");
}

Header read_header(const MappedFile& file, const Dataset& dataset) {
  Header header;
  if (file.size() < sizeof header) {
    refuse(file.path(),
           fmt::format("header: expected {} bytes, found {}", sizeof header, file.size()));
  }
  std::memcpy(&header, file.data(), sizeof header);
  if (std::memcmp(header.magic, kMagic, sizeof header.magic) != 0 || header.version != kVersion) {
    refuse(file.path(), fmt::format("header: is not a document order of version {}", kVersion));
  }
  if (header.header_checksum != header_checksum(header)) {
    refuse(file.path(),
           fmt::format("header: expected checksum {}, found {}", to_hex(header.header_checksum),
                       to_hex(header_checksum(header))));
  }
  if (header.fingerprint != dataset.fingerprint()) {
    refuse(file.path(), fmt::format("was made for data with fingerprint {}, but {} has {}",
                                    to_hex(header.fingerprint), dataset.folder(),
                                    to_hex(dataset.fingerprint())));
  }
  const uint64_t available = file.size() - sizeof header;
  const uint64_t expected = header.count + header.num_dropped;
  if (available % sizeof(DocumentNumber) != 0 || available / sizeof(DocumentNumber) != expected) {
    refuse(file.path(), fmt::format("documents: expected {} numbers of {} bytes, found {} bytes",
                                    expected, sizeof(DocumentNumber), available));
  }
  return header;
}

void check_every_document_once(const std::string& path, std::span<const DocumentNumber> documents,
                               const Dataset& dataset) {
  std::vector<bool> is_seen(static_cast<size_t>(dataset.num_documents()));
  for (const DocumentNumber number : documents) {
    if (number >= dataset.num_documents()) {
      refuse(path,
             fmt::format("document {}: the data has only {}", number, dataset.num_documents()));
    }
    if (is_seen[number]) {
      refuse(path, fmt::format("document {} stands there twice", number));
    }
    if (dataset.document(number).split != Split::kTrain) {
      refuse(path, fmt::format("document {} is held out and must not be trained on", number));
    }
    is_seen[number] = true;
  }
  const size_t expected = dataset.documents(Split::kTrain).size();
  if (documents.size() != expected) {
    refuse(path, fmt::format("expected all {} training documents, in order or dropped, found {}",
                             expected, documents.size()));
  }
}

}  // namespace

void write_order_file(const std::string& path, std::span<const DocumentNumber> documents,
                      uint64_t fingerprint, std::span<const DocumentNumber> dropped) {
  Header header{};
  std::memcpy(header.magic, kMagic, sizeof header.magic);
  header.version = kVersion;
  header.fingerprint = fingerprint;
  header.count = documents.size();
  header.num_dropped = dropped.size();
  Hasher64 hasher;
  hasher.update(documents.data(), documents.size_bytes());
  hasher.update(dropped.data(), dropped.size_bytes());
  header.documents_checksum = hasher.digest();
  header.header_checksum = header_checksum(header);
  AtomicFile file(path, ExitCode::kData);
  file.write(&header, sizeof header);
  file.write(documents.data(), documents.size_bytes());
  file.write(dropped.data(), dropped.size_bytes());
  file.commit();
}

std::vector<DocumentNumber> read_order_file(const std::string& path, const Dataset& dataset) {
  const MappedFile file(path, ExitCode::kData);
  const Header header = read_header(file, dataset);
  std::vector<DocumentNumber> documents(header.count + header.num_dropped);
  if (!documents.empty()) {
    std::memcpy(documents.data(), file.data() + sizeof header,
                documents.size() * sizeof(DocumentNumber));
  }
  const uint64_t found = hash64(documents.data(), documents.size() * sizeof(DocumentNumber));
  if (found != header.documents_checksum) {
    refuse(path, fmt::format("documents: expected checksum {}, found {}",
                             to_hex(header.documents_checksum), to_hex(found)));
  }
  check_every_document_once(path, documents, dataset);
  documents.resize(header.count);
  return documents;
}

}  // namespace lorikeet
