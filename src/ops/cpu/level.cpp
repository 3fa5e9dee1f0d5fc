// Which vector loops and products this processor gets.
#include "level.h"

#include <c10/util/Exception.h>

#include <cstdlib>

namespace lorikeet::ops::cpu {

namespace {

constexpr Level kReference{"reference", nullptr, false, false};
constexpr Level kPortable{"portable", &kPortableKernels, false, false};

bool has_avx2() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

bool has_avx512() {
#if defined(__x86_64__)
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#else
  return false;
#endif
}

bool has_bf16_product() {
#if defined(__x86_64__)
  return has_avx512() && __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

Level find(std::string_view name) {
  if (name == "reference") return kReference;
  if (name == "portable") return kPortable;
#if defined(__x86_64__)
  if (name == "avx2" && has_avx2()) return {"avx2", &kAvx2Kernels, true, false};
  if (name == "avx512" && has_avx512()) {
    return {"avx512", &kAvx512Kernels, true, has_bf16_product()};
  }
#endif
  TORCH_CHECK(name == "avx2" || name == "avx512", "LORIKEET_CPU is '", name,
              "': it may be avx512, avx2, portable or reference");
  TORCH_CHECK(false, "LORIKEET_CPU is '", name, "', which this processor does not have");
}

Level choose() {
  const char* asked = std::getenv("LORIKEET_CPU");
  if (asked != nullptr && *asked != '\0') return find(asked);
  return find(has_avx512() ? "avx512" : has_avx2() ? "avx2" : "portable");
}

Level& current() {
  static Level level = choose();
  return level;
}

}  // namespace

const Level& level() { return current(); }

void force_level(std::string_view name) { current() = name.empty() ? choose() : find(name); }

bool has_level(std::string_view name) {
  return name == "avx512" ? has_avx512() : name == "avx2" ? has_avx2() : true;
}

}  // namespace lorikeet::ops::cpu
