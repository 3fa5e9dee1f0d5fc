#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "lorikeet/core/error.h"

namespace lorikeet {

// Every function here throws Error(code, ...) that names the path and the system's reason; a full
// disk is named as such. `code` is the caller's: kData for corpora, kCheckpoint for weights.

/// The whole file. Refuses folders and anything else that is not a regular file.
std::string read_text_file(const std::string& path, ExitCode code);

/// Writes the whole file or leaves the old one as it was: see AtomicFile.
void write_file_atomically(const std::string& path, std::string_view content, ExitCode code);

/// Makes names created or renamed in `folder` survive a power cut.
void fsync_folder(const std::string& folder, ExitCode code);

/// Bytes that this user may still write on the disk that holds `path` (or its nearest existing
/// parent).
uint64_t free_disk_bytes(const std::string& path, ExitCode code);

/// A file that appears under its name only when complete. Written next to its place under a name of
/// its own, so two writers of one path never mix: the last commit wins. A symbolic link is
/// followed, not replaced.
class AtomicFile {
 public:
  AtomicFile(const std::string& path, ExitCode code);
  ~AtomicFile();  ///< removes what was not committed
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, size_t size);
  void write(std::string_view text) { write(text.data(), text.size()); }
  /// fsync, rename over the old file, fsync of the folder. Once.
  void commit();

 private:
  std::string path_;
  std::string temporary_;
  ExitCode code_;
  int descriptor_ = -1;
};

/// A whole file as read-only memory. Not for files that another process may shorten meanwhile
/// (SIGBUS): files of this program are replaced by rename, never rewritten in place. Movable; an
/// empty file has data() == nullptr.
class MappedFile {
 public:
  MappedFile(const std::string& path, ExitCode code);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  const std::byte* data() const { return data_; }
  size_t size() const { return size_; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

/// What to do with a folder that already has the name. An empty folder counts as none.
enum class ExistingFolder { kRefuse, kReplace };

/// A folder that appears under its name only when complete: files are written into `NAME.tmp`, then
/// commit().
///
/// One writer at a time: NAME.tmp is locked while it is open, a second writer is refused, and what
/// a killed writer left is cleared. (The lock is flock; on file systems without it two writers are
/// not noticed.) Several processes may write files into path() of the one that holds the object.
class AtomicFolder {
 public:
  AtomicFolder(const std::string& path, ExistingFolder existing, ExitCode code);
  ~AtomicFolder();  ///< removes what was not committed
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;

  /// Where to write until commit(): `NAME.tmp`.
  const std::string& path() const { return temporary_; }
  /// fsync of every file and folder inside, then rename to NAME. A replaced folder is exchanged in
  /// one step and removed after; where the file system cannot exchange, it stands as `NAME.old` for
  /// an instant. Once.
  void commit();

 private:
  void open_and_lock();
  void replace();

  std::string path_;
  std::string temporary_;
  ExistingFolder existing_;
  ExitCode code_;
  int lock_ = -1;
};

}  // namespace lorikeet
