#pragma once

namespace lorikeet {

/// The checkout's absolute path.
extern const char* const kSourceDir;

}  // namespace lorikeet
