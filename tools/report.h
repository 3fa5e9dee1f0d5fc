#pragma once
#include <string>
#include <string_view>

#include "lorikeet/core/error.h"

namespace lorikeet {

/// Prints `error:` lines, one for each line of the message, for greps, and a `hint:` line.
/// @return the code, for exit()
int report(ExitCode code, const std::string& message, std::string_view hint = "");
/// The same for whatever is being handled.
int report_current_exception(bool is_verbose);

}  // namespace lorikeet
