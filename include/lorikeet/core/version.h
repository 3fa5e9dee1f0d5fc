#pragma once
#include <string>

namespace lorikeet {

/// "0.1.0".
std::string version();
/// The commit the program was built from, "a1b2c3d4e5f6", with "-dirty" where files differed from
/// it; "unknown" where it was not built in a checkout. Recorded with checkpoints.
std::string commit();
/// The lines of `lorikeet --version`: version and commit, then LibTorch, CUDA, NCCL, the compiler
/// and the processor's features, one `name: value` a line, the last without a line feed.
std::string version_report();

}  // namespace lorikeet
