#include "tools/report.h"

#include <fmt/format.h>

#include <exception>
#include <iostream>
#include <new>
#include <sstream>

namespace lorikeet {

int report(ExitCode code, const std::string& message, std::string_view hint) {
  std::cout.flush();
  std::istringstream lines(message);
  for (std::string line; std::getline(lines, line);) std::cerr << "error: " << line << '\n';
  if (!hint.empty()) std::cerr << "hint: " << hint << '\n';
  return static_cast<int>(code);
}

namespace {

// A defect of ours. LibTorch appends a C++ backtrace to its messages: shown on request only.
int report_internal(std::string_view what, bool is_verbose) {
  if (!is_verbose) what = what.substr(0, what.find('\n'));
  return report(ExitCode::kInternal, fmt::format("internal: {}", what),
                is_verbose ? "" : "run it again with --verbose for the details");
}

}  // namespace

int report_current_exception(bool is_verbose) {
  try {
    throw;
  } catch (const Error& error) {
    return report(error.code(), error.what(), error.hint());
  } catch (const std::bad_alloc&) {
    return report(ExitCode::kInternal, "out of memory",
                  "a smaller train.micro_batch or model.context_length needs less");
  } catch (const std::exception& error) {  // c10::Error is one
    return report_internal(error.what(), is_verbose);
  }
}

}  // namespace lorikeet
