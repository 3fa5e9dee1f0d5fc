#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "lorikeet/core/error.h"

namespace lorikeet {

/// One thing that is wrong with a configuration, in the parts its message is made of:
/// `where: key: value rule`.
struct Problem {
  std::vector<std::string> keys;  ///< the culprit first, then others that the rule is about
  std::string value;              ///< "" where the key itself is wrong
  std::string rule;               ///< to be read after the value: "does not divide 4096"
  std::string hint;
  std::string where = {};  ///< "run.yaml:14" or "--set KEY=VALUE"; "" where unknown
};

/// What parsing a value throws: rule and hint as in Problem.
struct InvalidValue {
  std::string rule;
  std::string hint;
};

/// `text` as it may stand in a message: on one line, and not too long.
std::string shown(std::string_view text);

/// All problems at once, a line each. @throws Error always
[[noreturn]] void throw_problems(const std::vector<Problem>& problems,
                                 ExitCode code = ExitCode::kUsage);

}  // namespace lorikeet
