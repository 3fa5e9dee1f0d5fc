#include "lorikeet/similarity/stage_folder.h"

#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "lorikeet/core/hash.h"
#include "lorikeet/core/progress.h"

namespace lorikeet {

namespace {

namespace fs = std::filesystem;

constexpr char kMagic[9] = "LKSTAGE\n";
constexpr uint64_t kVersion = 1;
constexpr size_t kMaxSections = 4;

struct Header {
  char magic[8];
  uint64_t version;
  uint64_t fingerprint;
  uint64_t key;                          ///< hash64 of the key
  uint64_t section_bytes[kMaxSections];  ///< each section is padded to a multiple of 8
  uint64_t num_sections;
  uint64_t sections_checksum;
  uint64_t header_checksum;  ///< hash64 of the bytes before it
};
static_assert(sizeof(Header) == 88);

uint64_t checksum_of(const Header& header) {
  return hash64(&header, sizeof header - sizeof(uint64_t));
}

uint64_t padded(uint64_t bytes) { return (bytes + 7) / 8 * 8; }

[[noreturn]] void refuse(const std::string& path, const std::string& what) {
  throw Error(ExitCode::kData, fmt::format("{}: {}", path, what),
              "remove this file and run the command again: the file alone is made anew");
}

std::optional<Header> read_header(const std::string& path, uint64_t fingerprint) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    return std::nullopt;
  }
  Header header;
  if (!file.read(reinterpret_cast<char*>(&header), sizeof header) ||
      std::memcmp(header.magic, kMagic, sizeof header.magic) != 0 ||
      header.header_checksum != checksum_of(header)) {
    refuse(path, "header: is damaged, or not of a similarity stage");
  }
  if (header.version != kVersion) {
    refuse(path, fmt::format("header: expected version {}, found {}", kVersion, header.version));
  }
  if (header.fingerprint != fingerprint) {
    throw Error(ExitCode::kData,
                fmt::format("{}: was made for data with fingerprint {}, but the shards have {}",
                            path, to_hex(header.fingerprint), to_hex(fingerprint)),
                "the corpus changed since: --force starts over, --work names another folder");
  }
  return header;
}

int64_t environment_number(const char* name, int64_t otherwise) {
  const char* text = std::getenv(name);
  if (text == nullptr) {
    return otherwise;
  }
  int64_t value = 0;
  const char* end = text + std::strlen(text);
  const auto [stop, error] = std::from_chars(text, end, value);
  if (error != std::errc() || stop != end) {
    throw Error(ExitCode::kUsage, fmt::format("{}: '{}' is not a whole number", name, text),
                "launchers set it; unset it for a single process");
  }
  return value;
}

}  // namespace

StageFolder::StageFolder(std::string path, uint64_t fingerprint, bool force)
    : path_(std::move(path)), fingerprint_(fingerprint) {
  std::error_code error;
  if (force) {
    for (const auto& entry : fs::directory_iterator(path_, error)) {
      if (entry.path().extension() == ".stage") {
        fs::remove(entry.path(), error);
      }
    }
  }
  error.clear();
  fs::create_directories(path_, error);
  if (error) {
    throw Error(ExitCode::kData,
                fmt::format("{}: cannot be made a folder: {}", path_, error.message()),
                "--work names another folder for the stages' files");
  }
}

bool StageFolder::holds(const std::string& name, const std::string& key) const {
  const std::optional<Header> header = read_header(path(name), fingerprint_);
  return header && header->key == hash64(key);
}

StageFile StageFolder::open(const std::string& name, const std::string& key) const {
  if (!holds(name, key)) {
    throw Error(ExitCode::kData, fmt::format("{}: is missing", path(name)),
                "run the command again: it makes what is missing");
  }
  StageFile file(MappedFile(path(name), ExitCode::kData));
  Header header;
  std::memcpy(&header, file.file_.data(), sizeof header);
  uint64_t total = 0;
  for (size_t i = 0; i < header.num_sections; ++i) {
    total += padded(header.section_bytes[i]);
  }
  const std::byte* begin = file.file_.data() + sizeof header;
  if (file.file_.size() != sizeof header + total) {
    refuse(path(name),
           fmt::format("expected {} bytes, found {}", sizeof header + total, file.file_.size()));
  }
  if (header.sections_checksum != hash64(begin, total)) {
    refuse(path(name), fmt::format("expected checksum {}, found {}",
                                   to_hex(header.sections_checksum), to_hex(hash64(begin, total))));
  }
  for (size_t i = 0; i < header.num_sections; ++i) {
    file.sections_.emplace_back(begin, header.section_bytes[i]);
    begin += padded(header.section_bytes[i]);
  }
  return file;
}

void StageFolder::write(const std::string& name, const std::string& key,
                        const std::vector<std::span<const std::byte>>& sections) const {
  constexpr char kZeros[8] = {};
  Header header{};
  std::memcpy(header.magic, kMagic, sizeof header.magic);
  header.version = kVersion;
  header.fingerprint = fingerprint_;
  header.key = hash64(key);
  header.num_sections = sections.size();
  Hasher64 hasher;
  for (size_t i = 0; i < sections.size(); ++i) {
    header.section_bytes[i] = sections[i].size();
    hasher.update(sections[i].data(), sections[i].size());
    hasher.update(kZeros, padded(sections[i].size()) - sections[i].size());
  }
  header.sections_checksum = hasher.digest();
  header.header_checksum = checksum_of(header);
  AtomicFile file(path(name), ExitCode::kData);
  file.write(&header, sizeof header);
  for (const std::span<const std::byte> section : sections) {
    file.write(section.data(), section.size());
    file.write(kZeros, padded(section.size()) - section.size());
  }
  file.commit();
}

Crew Crew::from_environment(int64_t num_threads) {
  const Crew crew{.rank = environment_number("RANK", 0),
                  .world_size = environment_number("WORLD_SIZE", 1),
                  .num_threads = num_threads,
                  .local_rank = environment_number("LOCAL_RANK", 0)};
  if (crew.world_size < 1 || crew.rank < 0 || crew.rank >= crew.world_size) {
    throw Error(ExitCode::kUsage,
                fmt::format("RANK {} is not in 0 .. WORLD_SIZE {} - 1", crew.rank, crew.world_size),
                "launchers set both; unset them for a single process");
  }
  return crew;
}

void make_files(const StageFolder& folder, const Crew& crew, const std::string& label,
                const std::vector<std::string>& names, const std::string& key,
                const std::function<void(size_t)>& make) {
  ProgressBar bar(label, static_cast<double>(names.size()));
  const auto show = [&](size_t done) {
    bar.update(static_cast<double>(done),
               [&] { return fmt::format("{} of {} files", done, names.size()); });
  };
  for (size_t i = 0; i < names.size(); ++i) {
    const bool is_ours = i % static_cast<size_t>(crew.world_size) == static_cast<size_t>(crew.rank);
    if (is_ours && !folder.holds(names[i], key)) {
      make(i);
    }
    show(i + 1);
  }
  for (const std::string& name : names) {
    while (!folder.holds(name, key)) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  }
  bar.finish();
}

}  // namespace lorikeet
