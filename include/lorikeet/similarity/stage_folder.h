#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lorikeet/core/file.h"

namespace lorikeet {

/// A file of a stage, mapped: arrays behind a header that says for which data and options they
/// were made.
class StageFile {
 public:
  /// @param index  of the array, as it was written
  template <class T>
  std::span<const T> section(size_t index) const {
    const std::span<const std::byte> bytes = sections_.at(index);
    return {reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T)};
  }

 private:
  friend class StageFolder;
  explicit StageFile(MappedFile file) : file_(std::move(file)) {}
  MappedFile file_;
  std::vector<std::span<const std::byte>> sections_;
};

/// Where the stages of one order leave their files. A file belongs to the data's fingerprint and to
/// a key, the text of all options it depends on; one with another key counts as missing and is made
/// again, one for other data is refused.
class StageFolder {
 public:
  /// @param force  first removes the stages' files, and what killed writers left of them
  /// @throws Error(kData) where the folder cannot be made or a file cannot be removed
  StageFolder(std::string path, uint64_t fingerprint, bool force);

  std::string path(const std::string& name) const { return path_ + "/" + name; }
  uint64_t fingerprint() const { return fingerprint_; }

  /// Whether the file is there whole, for this key. Reads its header only.
  /// @throws Error(kData) for a file of other data
  bool holds(const std::string& name, const std::string& key) const;
  /// @throws Error(kData) where it is missing or its checksum is wrong
  StageFile open(const std::string& name, const std::string& key) const;
  /// Atomically. At most four sections.
  void write(const std::string& name, const std::string& key,
             const std::vector<std::span<const std::byte>>& sections) const;

 private:
  std::string path_;
  uint64_t fingerprint_;
};

template <class T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span<const T>(values));
}

/// This process among those that share a stage's files, and its threads.
struct Crew {
  int64_t rank = 0;
  int64_t world_size = 1;
  int64_t num_threads = 0;       ///< 0: all cores
  int64_t local_rank = 0;        ///< which of its machine's GPUs is its own
  double patience_seconds = 30;  ///< that a rank which failed has to be started again
};

/// Makes those of the files that this process is to make and that are not there, and waits for
/// those of the others. File i is made by rank i mod world_size. A rank that throws leaves the file
/// `failed_RANK` with what it says until it is started again.
/// @throws Error(kCommunication) where another's has lain there for `patience_seconds`. A rank that
/// was killed leaves none: its launcher ends the others
void make_files(const StageFolder& folder, const Crew& crew, const std::string& label,
                const std::vector<std::string>& names, const std::string& key,
                const std::function<void(size_t)>& make);

}  // namespace lorikeet
