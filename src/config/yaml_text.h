#pragma once
#include <yaml-cpp/yaml.h>

#include <string>

namespace lorikeet {

/// A configuration file's text. @throws Error if it is missing, unreadable, a directory or absurdly
/// large
std::string read_config_file(const std::string& path);

/// The one YAML document in `text`; a null node if it is empty. `name` is for errors, which give
/// `name:line:column`. @throws Error on broken YAML, tabs as indentation, bytes that are not UTF-8
YAML::Node load_yaml(const std::string& text, const std::string& name);

}  // namespace lorikeet
