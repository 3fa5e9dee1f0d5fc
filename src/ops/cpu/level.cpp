// Which vector loops and products this processor gets.
#include "level.h"

#include <c10/util/Exception.h>

#include <cstdlib>

#include "lorikeet/ops/processor_level.h"

namespace lorikeet::ops::cpu {

namespace {

constexpr Level kReference{.name = "reference",
                           .kernels = nullptr,
                           .fast_product = false,
                           .bf16_product = false,
                           .pane = kWidestPane};

Level portable(std::string_view name, bool bf16_product) {
  return {.name = name,
          .kernels = &kPortableKernels,
          .fast_product = false,
          .bf16_product = bf16_product,
          .pane = 32};
}

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

bool has_avx512bf16() {
#if defined(__x86_64__)
  return has_avx512() && __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

constexpr std::string_view kNames = "avx512bf16, avx512, avx2, portable or reference";

bool is_name(std::string_view name) {
  return name == "avx512bf16" || name == "avx512" || name == "avx2" || name == "portable" ||
         name == "reference";
}

Level find(std::string_view name) {
  if (name == "reference") return kReference;
  if (name == "portable") return portable("portable", /*bf16_product=*/false);
  if (name == "portable_bf16") return portable("portable_bf16", /*bf16_product=*/true);
#if defined(__x86_64__)
  const auto fast = [](std::string_view known, const VectorKernels& kernels, bool bf16,
                       int64_t pane) {
    return Level{.name = known,
                 .kernels = &kernels,
                 .fast_product = true,
                 .bf16_product = bf16,
                 .pane = pane};
  };
  if (name == "avx2" && has_avx2()) return fast("avx2", kAvx2Kernels, false, 32);
  if (name == "avx512" && has_avx512()) return fast("avx512", kAvx512Kernels, false, 64);
  if (name == "avx512bf16" && has_avx512bf16()) {
    return fast("avx512bf16", kAvx512Bf16Kernels, true, 64);
  }
#endif
  TORCH_CHECK(is_name(name), "LORIKEET_CPU is '", name, "': it may be ", kNames);
  TORCH_CHECK(false, "LORIKEET_CPU is '", name, "', which this processor does not have");
}

Level choose() {
  const char* asked = std::getenv("LORIKEET_CPU");
  if (asked != nullptr && *asked != '\0') return find(asked);
  for (const char* name : {"avx512bf16", "avx512", "avx2"}) {
    if (has_level(name)) return find(name);
  }
  return find("portable");
}

Level& current() {
  static Level level = choose();
  return level;
}

}  // namespace

const Level& level() { return current(); }

bool computes_bf16_in_fp32(int64_t inputs, int64_t outputs) {
  return !level().bf16_product || inputs % 2 != 0 || outputs % 2 != 0;
}

bool beats_library(at::ScalarType dtype) {
  return dtype == at::kBFloat16 && level().fast_product && !level().bf16_product;
}

void force_level(std::string_view name) { current() = name.empty() ? choose() : find(name); }

bool has_level(std::string_view name) {
  if (name == "avx512bf16") return has_avx512bf16();
  if (name == "avx512") return has_avx512();
  if (name == "avx2") return has_avx2();
  return name == "portable" || name == "portable_bf16" || name == "reference";
}

}  // namespace lorikeet::ops::cpu

namespace lorikeet::ops {

std::string processor_level_problem() {
  const char* const asked = std::getenv("LORIKEET_CPU");
  if (asked == nullptr || *asked == '\0' || cpu::has_level(asked)) return "";
  return cpu::is_name(asked) ? "this processor does not have it"
                             : "it may be " + std::string(cpu::kNames);
}

bool widens_bf16() { return cpu::beats_library(at::kBFloat16); }

}  // namespace lorikeet::ops
