#include "keys.h"

#include "lorikeet/core/nearest.h"
#include "schema.h"

namespace lorikeet {
namespace {

class KeyCollector {
 public:
  template <class T, class Rule>
  void field(const char* key, T&, const Rule&, const char*) {
    keys.emplace(join_path(section_, key), shape_of<T>());
  }
  template <class T>
  void section(const char* key, T& member, const char*) {
    const std::string outer = section_;
    section_ = join_path(outer, key);
    keys.emplace(section_, Shape::kSection);
    describe(*this, member);
    section_ = outer;
  }

  std::map<std::string, Shape> keys;

 private:
  std::string section_;
};

std::string section_of(const std::string& path) {
  const size_t dot = path.rfind('.');
  return dot == std::string::npos ? "" : path.substr(0, dot);
}

std::string leaf_of(const std::string& path) { return path.substr(path.rfind('.') + 1); }

/// Of several keys with the same last part, the one whose whole path is most like `path`.
std::string most_alike(const std::string& path, const std::vector<std::string>& candidates) {
  std::string best;
  for (const std::string& candidate : candidates) {
    const bool is_better =
        best.empty() || edit_distance(path, candidate) < edit_distance(path, best);
    if (is_better) best = candidate;
  }
  return best;
}

}  // namespace

const std::map<std::string, Shape>& known_keys() {
  static const std::map<std::string, Shape> keys = [] {
    KeyCollector collector;
    RunConfig config;
    describe(collector, config);
    return collector.keys;
  }();
  return keys;
}

std::string join_path(std::string_view section, std::string_view key) {
  return section.empty() ? std::string(key) : std::string(section) + "." + std::string(key);
}

std::string nearest_key(const std::string& path) {
  constexpr size_t kLongestSensible = 200;
  if (path.size() > kLongestSensible) return "";
  const std::string section = section_of(path);
  const std::string leaf = leaf_of(path);
  std::vector<std::string> paths, leaves, siblings, namesakes;
  for (const auto& [key, shape] : known_keys()) {
    if (path.starts_with(key + ".")) continue;  // the user named this section, and rightly so
    leaves.push_back(leaf_of(key));
    if (section_of(key) == section) {
      siblings.push_back(leaf_of(key));
    } else {
      paths.push_back(key);
    }
    if (leaf_of(key) == leaf) namesakes.push_back(key);
  }
  if (!namesakes.empty()) return most_alike(path, namesakes);  // right key, wrong section
  if (const std::string key = nearest(leaf, siblings); !key.empty()) return join_path(section, key);
  if (const std::string key = nearest(path, paths); !key.empty()) return key;
  const std::string key = nearest(leaf, leaves);
  if (key.empty()) {
    const bool has_wrong_section = !section.empty() && !known_keys().contains(section);
    return has_wrong_section ? nearest_key(section) : "";
  }
  for (const std::string& candidate : paths) {
    if (leaf_of(candidate) == key) namesakes.push_back(candidate);
  }
  return most_alike(path, namesakes);
}

}  // namespace lorikeet
