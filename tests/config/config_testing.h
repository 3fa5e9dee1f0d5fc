#pragma once
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "lorikeet/config/load.h"
#include "lorikeet/config/validate.h"
#include "lorikeet/core/error.h"
#include "tests/support/source_dir.h"

namespace lorikeet {

/// "message | hint" of the usage error that a configuration leads to; "" if it is valid.
inline std::string error_of(const std::string& yaml,
                            const std::vector<std::string>& overrides = {}) {
  try {
    parse_run_config(yaml, "run.yaml", overrides);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kUsage);
    return std::string(error.what()) + " | " + error.hint();
  }
  return "";
}

/// The configuration of a run that is valid but for `yaml`, which starts in line 2.
inline std::string run_with(const std::string& yaml) { return "train: {steps: 1000}\n" + yaml; }

inline std::string file_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

inline std::string in_source(const std::string& path) {
  return std::string(kSourceDir) + "/" + path;
}

}  // namespace lorikeet
