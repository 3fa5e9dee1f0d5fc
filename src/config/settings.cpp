#include "settings.h"

#include <fmt/format.h>

#include <optional>

#include "yaml_text.h"

namespace lorikeet {
namespace {

constexpr size_t kLongestList = 64;
constexpr int kUnknownLine = -1;

const char* kind_of(const YAML::Node& node) {
  if (node.IsMap()) return "keys and values";
  if (node.IsSequence()) return "a list";
  return "a single value";
}

/// The shape of what stands at `path`; entries of a map are scalars.
std::optional<Shape> shape_at(const std::string& path) {
  const auto& keys = known_keys();
  if (const auto found = keys.find(path); found != keys.end()) return found->second;
  for (const auto& [key, shape] : keys) {
    const bool is_entry =
        shape == Shape::kMap && path.size() > key.size() + 1 && path.starts_with(key + ".");
    if (is_entry) return Shape::kScalar;
  }
  return std::nullopt;
}

}  // namespace

std::string Settings::Layer::where(int line) const {
  return has_lines && line != kUnknownLine ? fmt::format("{}:{}", name, line + 1) : name;
}

void Settings::add_file(const std::string& text, const std::string& name) {
  file_name_ = name;
  const YAML::Node root = load_yaml(text, name);
  if (root.IsNull()) return;
  if (!root.IsMap()) {
    throw Error(
        ExitCode::kUsage,
        fmt::format("{}: {}, where a configuration is keys and values", name, kind_of(root)),
        "write `key: value` lines; docs/config.md lists the keys");
  }
  Layer layer{.name = name, .has_lines = true, .line_of_path = {}};
  add_section("", root, layer);
}

void Settings::add_override(const std::string& assignment) {
  const std::string where = "--set " + shown(assignment);
  const size_t equals = assignment.find('=');
  if (equals == std::string::npos || equals == 0) {
    refuse("", "", "not of the form KEY=VALUE", "such as --set train.steps=100", where);
    return;
  }
  const std::string path = assignment.substr(0, equals);
  Layer layer{.name = where, .has_lines = false, .line_of_path = {}};
  add(path, load_yaml(assignment.substr(equals + 1), where), kUnknownLine, layer);
}

void Settings::add(const std::string& path, const YAML::Node& node, int line, Layer& layer) {
  const std::optional<Shape> shape = shape_at(path);
  const std::string where = layer.where(line);
  if (!shape) return refuse_unknown(path, where);
  if (is_duplicate(path, line, layer)) return;
  if (node.IsNull()) {
    return refuse(path, "", "has no value", "give it one, or remove the key for the default",
                  where);
  }
  switch (*shape) {
    case Shape::kSection:
    case Shape::kMap:
      if (node.IsMap()) return add_section(path, node, layer);
      return refuse(path, kind_of(node), "where keys and values belong",
                    "write `key: value` lines below it, indented", where);
    case Shape::kList:
      return add_list(path, node, where);
    case Shape::kScalar:
      return add_scalar(path, node, where);
  }
}

void Settings::add_section(const std::string& section, const YAML::Node& node, Layer& layer) {
  const bool has_free_keys = !section.empty() && shape_at(section) == Shape::kMap;
  for (const auto& pair : node) {
    const int line = pair.first.Mark().line;
    if (!pair.first.IsScalar() || pair.first.Scalar().empty()) {
      refuse(section, "", "has a key that is not a word", "keys are plain words",
             layer.where(line));
      continue;
    }
    const std::string& key = pair.first.Scalar();
    const std::string path = join_path(section, key);
    if (key.find('.') != std::string::npos && !has_free_keys && shape_at(path)) {
      refuse(path, "", "dotted keys are for --set only",
             "in a file, nest them: one level a line, indented", layer.where(line));
      continue;
    }
    add(path, pair.second, line, layer);
  }
}

void Settings::add_list(const std::string& path, const YAML::Node& node, const std::string& where) {
  if (!node.IsSequence()) {
    return refuse(path, kind_of(node), "where a list belongs", "write [a, b]", where);
  }
  if (node.size() > kLongestList)
    return refuse(path, "", "list is far too long",
                  fmt::format("write at most {} values", kLongestList), where);
  Setting setting{.values = {}, .where = where};
  for (const YAML::Node& element : node) {
    if (!element.IsScalar()) {
      return refuse(path, "", "the list's elements must be single values", "write [a, b]", where);
    }
    setting.values.push_back(element.Scalar());
  }
  settings_[path] = setting;
}

void Settings::add_scalar(const std::string& path, const YAML::Node& node,
                          const std::string& where) {
  if (!node.IsScalar()) {
    return refuse(path, kind_of(node), "where a single value belongs",
                  "write one value, without brackets or keys", where);
  }
  settings_[path] = {.values = {node.Scalar()}, .where = where};
}

void Settings::refuse(const std::string& path, const std::string& value, const std::string& rule,
                      const std::string& hint, const std::string& where) {
  Problem problem{.keys = {}, .value = value, .rule = rule, .hint = hint, .where = where};
  if (!path.empty()) problem.keys.push_back(path);
  problems_.push_back(problem);
}

void Settings::refuse_unknown(const std::string& path, const std::string& where) {
  const std::string meant = nearest_key(path);
  refuse(path, "", meant.empty() ? "unknown key" : "unknown key; did you mean " + meant + "?",
         "`lorikeet config-reference` lists every key", where);
}

bool Settings::is_duplicate(const std::string& path, int line, Layer& layer) {
  const auto [found, is_new] = layer.line_of_path.emplace(path, line);
  if (is_new) return false;
  const std::string rule = layer.has_lines
                               ? fmt::format("set twice; first in line {}", found->second + 1)
                               : std::string("set twice");
  refuse(path, "", rule, "remove one of the two", layer.where(line));
  return true;
}

const Setting* Settings::find(const std::string& path) const {
  const auto found = settings_.find(path);
  return found == settings_.end() ? nullptr : &found->second;
}

std::map<std::string, Setting> Settings::below(const std::string& path) const {
  std::map<std::string, Setting> entries;
  const std::string prefix = path + ".";
  for (auto it = settings_.lower_bound(prefix); it != settings_.end(); ++it) {
    if (!it->first.starts_with(prefix)) break;
    entries.emplace(it->first.substr(prefix.size()), it->second);
  }
  return entries;
}

void Settings::locate(std::vector<Problem>& problems) const {
  for (Problem& problem : problems) {
    if (!problem.where.empty()) continue;
    for (const std::string& key : problem.keys) {
      const Setting* setting = find(key);
      if (setting == nullptr) continue;
      problem.where = setting->where;
      break;
    }
    if (problem.where.empty()) problem.where = file_name_;
    const bool is_default = !problem.keys.empty() && find(problem.keys.front()) == nullptr &&
                            below(problem.keys.front()).empty();
    if (is_default && !problem.value.empty()) problem.value += " (default)";
  }
}

}  // namespace lorikeet
