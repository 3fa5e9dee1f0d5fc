#include "lorikeet/core/version.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "lorikeet/core/cpu_features.h"
#include "lorikeet_build_info.h"

namespace lorikeet {

std::string version() { return LORIKEET_VERSION; }

std::string commit() { return LORIKEET_COMMIT; }

std::string version_report() {
  const auto features = cpu_features();
  return fmt::format(
      "lorikeet {} (commit {})\n"
      "LibTorch:  {}\n"
      "CUDA:      {}\n"
      "NCCL:      {}\n"
      "compiler:  GCC {}\n"
      "processor: {}",
      version(), commit(), LORIKEET_TORCH_VERSION, LORIKEET_CUDA_SUMMARY, LORIKEET_NCCL_SUMMARY,
      __VERSION__,
      features.empty() ? "no feature that a kernel asks for"
                       : fmt::to_string(fmt::join(features, " ")));
}

}  // namespace lorikeet
