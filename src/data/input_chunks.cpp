#include "input_chunks.h"

#include "lorikeet/core/error.h"
#include "lorikeet/core/file.h"
#include "lorikeet/core/hash.h"
#include "lorikeet/data/permutation.h"

namespace lorikeet {

namespace {
constexpr size_t kChunkBytes = 512 * 1024;
constexpr size_t kSampleBlocks = 64;
constexpr size_t kSampleBytes = 64 * 1024;
}  // namespace

bool ChunkReader::next_line(std::string_view& line) {
  if (!lines_) {
    lines_.emplace(paths_[static_cast<size_t>(position_.file)]);
  }
  if (!lines_->next(line)) {
    return false;
  }
  position_.line = lines_->line_number();
  position_.chain = derive_key({position_.chain, hash64(line)});
  return true;
}

void ChunkReader::close_file() {
  finished_bytes_ += lines_->stored_bytes_read();
  lines_.reset();
  ++position_.file;
  position_.line = 0;
}

void ChunkReader::skip_to(const InputPosition& position) {
  std::string_view line;
  while (position_.file < position.file || position_.line < position.line) {
    if (!next_line(line)) {
      if (position_.file >= position.file) {
        break;  // fewer lines than before
      }
      close_file();
    }
  }
  if (position_.chain != position.chain || position_.line != position.line) {
    throw Error(ExitCode::kData,
                fmt::format("{}: the input up to line {} is not what the stopped run read",
                            paths_[static_cast<size_t>(position.file)], position.line),
                "--force starts over");
  }
}

bool ChunkReader::next(InputChunk& chunk) {
  chunk = {};
  std::string_view line;
  while (position_.file < static_cast<int64_t>(paths_.size()) && chunk.bytes.size() < kChunkBytes) {
    if (!next_line(line)) {
      close_file();
      if (!chunk.lines.empty()) {
        break;  // a chunk is of one file
      }
      continue;
    }
    if (!line.empty()) {
      chunk.path = lines_->path();
      chunk.lines.push_back({chunk.bytes.size(), line.size(), position_});
      chunk.bytes += line;
    }
  }
  chunk.stored_bytes_read = stored_bytes_read();
  return !chunk.lines.empty();
}

int64_t ChunkReader::stored_bytes_read() const {
  return finished_bytes_ + (lines_ ? lines_->stored_bytes_read() : 0);
}

InputFingerprint fingerprint_input(const std::string& path) {
  const MappedFile file(path, ExitCode::kData);
  const std::string_view bytes = file.text();
  if (bytes.size() <= kSampleBlocks * kSampleBytes) {
    return {bytes.size(), hash64(bytes)};
  }
  Hasher64 hasher;
  for (size_t block = 0; block < kSampleBlocks; ++block) {
    const size_t last = bytes.size() - kSampleBytes;  // the last block is the end of the file
    hasher.update(bytes.substr(last / (kSampleBlocks - 1) * block, kSampleBytes));
  }
  hasher.update(bytes.substr(bytes.size() - kSampleBytes));
  return {bytes.size(), hasher.digest()};
}

}  // namespace lorikeet
