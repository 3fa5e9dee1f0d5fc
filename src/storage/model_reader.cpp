#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <system_error>

#include "json.h"
#include "lorikeet/storage/model_directory.h"

namespace lorikeet {

namespace fs = std::filesystem;
using storage::Json;
using storage::shown;

namespace {

constexpr size_t kNamesShown = 5;
constexpr const char* kIndexHint =
    "the index is damaged or of another model: fetch or copy the directory again";

[[noreturn]] void refuse(const std::string& what, const std::string& rule,
                         const std::string& hint) {
  throw Error(ExitCode::kCheckpoint, what + ": " + rule, hint);
}

/// False also for what cannot be asked, such as a name that is too long.
bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

/// "2 missing (a, b)", cut after five names.
std::string counted(const std::vector<std::string>& names, const std::string& kind) {
  const size_t shown_names = std::min(names.size(), kNamesShown);
  const auto end = names.begin() + static_cast<std::ptrdiff_t>(shown_names);
  const std::string rest =
      names.size() > shown_names ? fmt::format(", and {} more", names.size() - shown_names) : "";
  return fmt::format("{} {} ({}{})", names.size(), kind, fmt::join(names.begin(), end, ", "), rest);
}

/// File name of a shard. Nothing outside the directory can be named.
std::string shard_name(const std::string& path, const std::string& tensor, const Json& value) {
  if (!value.is_string()) {
    refuse(path, fmt::format("weight_map '{}': {} is not a file name", tensor, shown(value)),
           kIndexHint);
  }
  const auto name = value.get<std::string>();
  if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos ||
      name.find('\0') != std::string::npos) {
    refuse(path,
           fmt::format("weight_map '{}': {} is not the plain name of a file in this folder", tensor,
                       shown(value)),
           kIndexHint);
  }
  return name;
}

void refuse_missing_shards(const std::string& directory, const std::set<std::string>& shards) {
  std::vector<std::string> missing;
  for (const std::string& name : shards) {
    if (!is_there(fs::path(directory) / name)) missing.push_back(name);
  }
  if (missing.empty()) return;
  refuse(directory,
         fmt::format("of {} weight files in the index, {}", shards.size(),
                     counted(missing, "missing")),
         "fetch or copy the directory again");
}

[[noreturn]] void refuse_without_weights(const std::string& directory) {
  for (const char* pickled :
       {"pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth", "model.pt"}) {
    if (is_there(fs::path(directory) / pickled)) {
      refuse(directory,
             fmt::format("has only pickled weights ({}), and reading them may run arbitrary code",
                         pickled),
             "convert them to safetensors with a tool you trust, on a machine you can lose");
    }
  }
  refuse(directory, "has neither model.safetensors nor model.safetensors.index.json",
         "give a folder with config.json and model.safetensors, such as runs/NAME/model");
}

}  // namespace

ModelReader::ModelReader(const std::string& directory) : directory_(directory) {
  if (std::error_code ignored; !fs::is_directory(directory, ignored)) {
    refuse(directory, "is not a folder; a model directory is needed",
           "give a folder with config.json and model.safetensors, such as runs/NAME/model");
  }
  const std::string single = "model.safetensors";
  const fs::path index = fs::path(directory) / "model.safetensors.index.json";
  if (is_there(fs::path(directory) / single)) {  // first, as in transformers
    const auto& file =
        files_.emplace(single, (fs::path(directory) / single).string()).first->second;
    for (const std::string& name : file.names()) file_of_[name] = single;
  } else if (is_there(index)) {
    open_index(index.string());
  } else {
    refuse_without_weights(directory);
  }
}

void ModelReader::open_index(const std::string& path) {
  const std::string text = read_text_file(path, ExitCode::kCheckpoint);
  const Json json = storage::parse_json_object(text, path, 3);
  const auto map = json.find("weight_map");
  if (map == json.end() || !map->is_object()) refuse(path, "has no object weight_map", kIndexHint);
  std::set<std::string> shards;
  for (const auto& [tensor, value] : map->items()) {
    file_of_[tensor] = shard_name(path, tensor, value);
    shards.insert(file_of_[tensor]);
  }
  refuse_missing_shards(directory_, shards);
  for (const std::string& name : shards) {
    files_.emplace(name, (fs::path(directory_) / name).string());
  }
  for (const auto& [tensor, name] : file_of_) {
    if (!files_.at(name).contains(tensor)) {
      refuse(path, fmt::format("tensor '{}' is not in {}, where the index puts it", tensor, name),
             kIndexHint);
    }
  }
}

std::vector<std::string> ModelReader::names() const {
  std::vector<std::string> names;
  for (const auto& entry : file_of_) names.push_back(entry.first);
  return names;
}

const SafetensorsFile& ModelReader::file(const std::string& name) const {
  const auto found = file_of_.find(name);
  if (found == file_of_.end()) {
    refuse(directory_, fmt::format("has no tensor '{}'", name),
           "compare config.json with the run that made the weights");
  }
  return files_.at(found->second);
}

void check_tensors(const ModelReader& reader,
                   const std::vector<std::pair<std::string, std::vector<int64_t>>>& expected) {
  std::vector<std::string> missing, unexpected, reshaped, retyped, problems;
  std::set<std::string> known;
  for (const auto& [name, shape] : expected) {
    known.insert(name);
    if (!reader.contains(name)) {
      missing.push_back(name);
    } else if (const auto& info = reader.info(name); info.shape != shape) {
      reshaped.push_back(fmt::format("{}: {} in the file, {} in the model", name,
                                     shape_text(info.shape), shape_text(shape)));
    } else if (!c10::isFloatingType(info.dtype)) {
      retyped.push_back(fmt::format("{}: {}", name, to_string(info)));
    }
  }
  for (const std::string& name : reader.names()) {
    if (!known.contains(name) && !name.ends_with("rotary_emb.inv_freq")) unexpected.push_back(name);
  }
  if (!missing.empty()) problems.push_back(counted(missing, "missing"));
  if (!unexpected.empty()) problems.push_back(counted(unexpected, "unexpected"));
  if (!reshaped.empty()) problems.push_back(counted(reshaped, "of another shape"));
  if (!retyped.empty()) problems.push_back(counted(retyped, "not of a floating-point dtype"));
  if (problems.empty()) return;
  refuse(reader.directory(),
         fmt::format("the weights do not fit the model: {}", fmt::join(problems, "; ")),
         "compare config.json with the run that made the weights");
}

}  // namespace lorikeet
