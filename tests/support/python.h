#pragma once
#include <cstdlib>
#include <string>
#include <vector>

namespace lorikeet::testing {

inline std::string quoted(const std::string& text) { return "'" + text + "'"; }

/// A Python that has `package`: the one of the dependencies, or the system's; "" if none has.
inline std::string find_python(const std::string& package) {
  std::vector<std::string> candidates;
  if (const char* deps = std::getenv("LORIKEET_DEPS")) {
    candidates.push_back(std::string(deps) + "/venv/bin/python");
  }
  if (const char* home = std::getenv("HOME")) {
    candidates.push_back(std::string(home) + "/.cache/lorikeet/venv/bin/python");
  }
  candidates.push_back("python3");
  for (const std::string& python : candidates) {
    const std::string command = quoted(python) + " -c 'import " + package + "' >/dev/null 2>&1";
    if (std::system(command.c_str()) == 0) return python;
  }
  return "";
}

}  // namespace lorikeet::testing
