#include "lorikeet/similarity/stage_folder.h"

#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "lorikeet/core/hash.h"
#include "lorikeet/core/log.h"
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

// Whole files, and temporary ones of AtomicFile: embeddings_000000.stage.PID-N.tmp.
bool is_of_a_stage(const fs::path& path) {
  const std::string name = path.filename().string();
  return name.ends_with(".stage") ||
         (name.ends_with(".tmp") && name.find(".stage.") != std::string::npos);
}

void remove_stages(const std::string& folder) {
  std::error_code error;
  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (is_of_a_stage(entry.path())) paths.push_back(entry.path());
  }
  for (const fs::path& path : paths) {
    fs::remove(path, error);
    if (error) {
      throw Error(ExitCode::kData,
                  fmt::format("{}: cannot be removed: {}", path.string(), error.message()),
                  "--force starts over: it must be allowed to remove the stages' files");
    }
  }
}

// What a rank leaves for the others when it fails.
std::string failure_file(const StageFolder& folder, int64_t rank) {
  return folder.path(fmt::format("failed_{}", rank));
}

void leave_failure(const StageFolder& folder, int64_t rank, const std::string& name,
                   const std::exception& failure) {
  try {
    write_file_atomically(failure_file(folder, rank), fmt::format("{}: {}", name, failure.what()),
                          ExitCode::kData);
  } catch (const Error& error) {  // the failure itself is what the user has to see
    log_warning("{}", error.what());
  }
}

// Waits for a file that another rank makes. A mark that an earlier call left goes as soon as its
// rank starts again, so one that stays is of this call.
void wait_for(const StageFolder& folder, const Crew& crew, const std::string& name,
              const std::string& key, int64_t rank) {
  using Clock = std::chrono::steady_clock;
  const std::string mark = failure_file(folder, rank);
  Clock::time_point unmarked = Clock::now();
  while (!folder.holds(name, key)) {
    if (!fs::exists(mark)) unmarked = Clock::now();
    if (Clock::now() - unmarked > std::chrono::duration<double>(crew.patience_seconds)) {
      throw Error(ExitCode::kCommunication,
                  fmt::format("{}: rank {}, which was to make it, has failed with {}",
                              folder.path(name), rank, read_text_file(mark, ExitCode::kData)),
                  "mend that and start all processes again: they go on where they were");
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

}  // namespace

StageFolder::StageFolder(std::string path, uint64_t fingerprint, bool force)
    : path_(std::move(path)), fingerprint_(fingerprint) {
  std::error_code error;
  if (force) remove_stages(path_);
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

void make_files(const StageFolder& folder, const Crew& crew, const std::string& label,
                const std::vector<std::string>& names, const std::string& key,
                const std::function<void(size_t)>& make) {
  ProgressBar bar(label, static_cast<double>(names.size()));
  const auto show = [&](size_t done) {
    bar.update(static_cast<double>(done),
               [&] { return fmt::format("{} of {} files", done, names.size()); });
  };
  const auto maker_of = [&](size_t i) {
    return static_cast<int64_t>(i % static_cast<size_t>(crew.world_size));
  };
  const bool is_alone = crew.world_size == 1;
  std::error_code ignored;  // mostly there is none
  if (!is_alone) fs::remove(failure_file(folder, crew.rank), ignored);
  for (size_t i = 0; i < names.size(); ++i) {
    try {
      if (maker_of(i) == crew.rank && !folder.holds(names[i], key)) make(i);
    } catch (const std::exception& failure) {
      if (!is_alone) leave_failure(folder, crew.rank, names[i], failure);
      throw;
    }
    show(i + 1);
  }
  for (size_t i = 0; i < names.size(); ++i) {
    wait_for(folder, crew, names[i], key, maker_of(i));
  }
  bar.finish();
}

}  // namespace lorikeet
