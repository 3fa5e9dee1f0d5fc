#pragma once
#include <yaml-cpp/yaml.h>

#include <map>
#include <string>
#include <vector>

#include "keys.h"
#include "problem.h"

namespace lorikeet {

/// What a user set for one key, as text, and where.
struct Setting {
  std::vector<std::string> values;  ///< one, or a list's elements
  std::string where;                ///< "run.yaml:14" or "--set KEY=VALUE"
};

/// The file and the overrides, flattened to `dotted path -> setting`; later layers win key by key.
/// What is wrong with the keys is collected in problems(); a broken file is thrown at once.
class Settings {
 public:
  /// Reads the keys of a configuration file's text; errors call it `name`.
  void add_file(const std::string& text, const std::string& name);
  /// `model.hidden_size=512`: a dotted key, and a value in YAML.
  void add_override(const std::string& assignment);

  /// nullptr if the key was not set.
  const Setting* find(const std::string& path) const;
  /// Everything set below `path`, by what follows it: the entries of a map.
  std::map<std::string, Setting> below(const std::string& path) const;
  const std::vector<Problem>& problems() const { return problems_; }
  /// Fills in where each problem is: at its first key that was set, else in the file.
  void locate(std::vector<Problem>& problems) const;

 private:
  // One layer (the file, or one override) while it is read.
  struct Layer {
    std::string name;  // of the file, or "--set KEY=VALUE"
    bool has_lines = false;
    std::map<std::string, int> line_of_path;  // to find duplicates; also of sections
    std::string where(int line) const;
  };

  void add(const std::string& path, const YAML::Node& node, int line, Layer& layer);
  void add_section(const std::string& section, const YAML::Node& node, Layer& layer);
  void add_list(const std::string& path, const YAML::Node& node, const std::string& where);
  void add_scalar(const std::string& path, const YAML::Node& node, const std::string& where);
  void refuse(const std::string& path, const std::string& value, const std::string& rule,
              const std::string& hint, const std::string& where);
  void refuse_unknown(const std::string& path, const std::string& where);
  bool is_duplicate(const std::string& path, int line, Layer& layer);

  std::map<std::string, Setting> settings_;
  std::vector<Problem> problems_;
  std::string file_name_;
};

}  // namespace lorikeet
