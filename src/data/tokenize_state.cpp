#include "tokenize_state.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "lorikeet/core/error.h"
#include "lorikeet/core/file.h"
#include "lorikeet/core/json_problem.h"

namespace lorikeet {

using Json = nlohmann::ordered_json;

namespace {
std::string state_path(const std::string& folder) {
  return (std::filesystem::path(folder) / kProgressFile).string();
}
}  // namespace

void write_state(const std::string& folder, const TokenizeState& state) {
  Json shards = Json::array();
  for (const ShardRecord& shard : state.shards) {
    shards.push_back({shard.file, shard.documents, shard.tokens, shard.checksum});
  }
  const Json json = {{"made_from", Json::parse(state.made_from)},
                     {"file", state.position.file},
                     {"line", state.position.line},
                     {"chain", state.position.chain},
                     {"skipped_lines", state.skipped_lines},
                     {"shards", shards}};
  write_file_atomically(state_path(folder), json.dump() + "\n", ExitCode::kData);
}

std::optional<TokenizeState> read_state(const std::string& folder) {
  const std::string path = state_path(folder);
  if (!std::filesystem::exists(path)) {
    return std::nullopt;
  }
  const std::string text = read_text_file(path, ExitCode::kData);
  try {
    const Json json = Json::parse(text);
    TokenizeState state{
        .made_from = json.at("made_from").dump(),
        .position = {.file = json.at("file"), .line = json.at("line"), .chain = json.at("chain")},
        .skipped_lines = json.at("skipped_lines"),
        .shards = {}};
    for (const Json& shard : json.at("shards")) {
      state.shards.push_back({shard.at(0), shard.at(1), shard.at(2), shard.at(3)});
    }
    return state;
  } catch (const Json::exception& error) {
    throw Error(ExitCode::kData, fmt::format("{}: {}", path, json_problem(error)),
                "--force starts over");
  }
}

FolderLock::FolderLock(const std::string& folder)
    : descriptor_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  if (descriptor_ >= 0 && ::flock(descriptor_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    ::close(descriptor_);
    throw Error(ExitCode::kData, fmt::format("{}: another run is writing here", folder),
                "wait for it, or choose another --output");
  }
}

FolderLock::~FolderLock() {
  if (descriptor_ >= 0) {
    ::close(descriptor_);
  }
}

void remove_run_files(const std::string& folder, bool finished) {
  namespace fs = std::filesystem;
  if (finished) {
    fs::remove(fs::path(folder) / kManifestFile);  // first: without it the folder is unfinished
    fs::remove(fs::path(folder) / kProgressFile);
  }
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    const bool is_shard = name.starts_with("shard_") && name.ends_with(".tokens");
    const bool is_half = name.ends_with(".tmp") &&
                         (name.starts_with("shard_") || name.starts_with(kProgressFile) ||
                          name.starts_with(kManifestFile) || name.starts_with(kTokenizerFile));
    if (is_half || (finished && is_shard)) {
      files.push_back(entry.path());
    }
  }
  for (const fs::path& file : files) {
    fs::remove(file);
  }
}

void require_same_run(const std::string& folder, const std::string& before,
                      const std::string& now) {
  const Json then = Json::parse(before);
  const Json today = Json::parse(now);
  for (const auto& [key, value] : today.items()) {
    if (!then.contains(key) || then.at(key) != value) {
      throw Error(ExitCode::kData,
                  fmt::format("{}: holds tokens of another run: {} was {}, now {}", folder, key,
                              then.contains(key) ? then.at(key).dump() : "not given", value.dump()),
                  "choose another --output, or start over with --force");
    }
  }
}

}  // namespace lorikeet
