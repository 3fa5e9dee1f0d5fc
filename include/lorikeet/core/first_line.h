#pragma once
#include <string>

namespace lorikeet {

/// Of what an exception says: LibTorch appends a backtrace.
inline std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

}  // namespace lorikeet
