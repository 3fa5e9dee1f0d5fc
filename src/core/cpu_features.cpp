#include "lorikeet/core/cpu_features.h"

#include <algorithm>
#include <fstream>
#include <sstream>

namespace lorikeet {

// The kernel lists a feature only where it also saves the registers, which CPUID alone does not
// say.
std::vector<std::string> cpu_features() {
  std::ifstream file("/proc/cpuinfo");
  std::vector<std::string> flags;
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("flags")) continue;
    std::istringstream words(line.substr(line.find(':') + 1));
    for (std::string word; words >> word;) flags.push_back(word);
    break;
  }
  std::vector<std::string> present;
  for (const char* name : {"avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile",
                           "amx_bf16", "amx_int8"}) {
    if (std::find(flags.begin(), flags.end(), name) != flags.end()) present.push_back(name);
  }
  return present;
}

}  // namespace lorikeet
