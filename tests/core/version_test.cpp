#include "lorikeet/core/version.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "lorikeet/core/cpu_features.h"

namespace lorikeet {
namespace {

TEST(Version, ReportNamesEveryPart) {
  const std::string report = version_report();
  EXPECT_TRUE(report.starts_with("lorikeet " + version() + " (commit " + commit() + ")\n"));
  for (const char* part :
       {"\nLibTorch: ", "\nCUDA: ", "\nNCCL: ", "\ncompiler: ", "\nprocessor: "}) {
    EXPECT_THAT(report, testing::HasSubstr(part));
  }
  EXPECT_NE(report.back(), '\n');
}

TEST(CpuFeatures, AgreeWithTheCompilersCpuid) {
  const auto features = cpu_features();
  const auto has = [&](const char* name) {
    return std::find(features.begin(), features.end(), name) != features.end();
  };
  EXPECT_EQ(has("avx2"), static_cast<bool>(__builtin_cpu_supports("avx2")));
  EXPECT_EQ(has("fma"), static_cast<bool>(__builtin_cpu_supports("fma")));
  EXPECT_EQ(has("avx512f"), static_cast<bool>(__builtin_cpu_supports("avx512f")));
  EXPECT_EQ(has("avx512_bf16"), static_cast<bool>(__builtin_cpu_supports("avx512bf16")));
}

}  // namespace
}  // namespace lorikeet
