#include "lorikeet/core/cuda_backend.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

namespace lorikeet {
namespace {

bool has_driver() { return dlopen("libcuda.so.1", RTLD_LAZY) != nullptr; }

TEST(CudaBackend, SaysWhyItCannotBeUsed) {
  std::string why_not = "nothing was said";
  if (load_cuda_backend(&why_not)) {
    EXPECT_EQ(why_not, "");
    EXPECT_FALSE(cuda_backend().devices.empty());
  } else if (!has_driver()) {
    EXPECT_EQ(why_not, "no NVIDIA driver is installed (libcuda.so.1 was not found)");
    EXPECT_TRUE(cuda_backend().devices.empty());
  } else {
    EXPECT_TRUE(why_not.starts_with("the CUDA back end cannot be opened: ") ||
                why_not.starts_with("CUDA finds no usable GPU: "))
        << why_not;
  }
}

TEST(CudaBackend, AnswersTheSameTwice) {
  std::string first, second;
  EXPECT_EQ(load_cuda_backend(&first), load_cuda_backend(&second));
  EXPECT_EQ(first, second);
}

TEST(GpuCudaBackend, DescribesTheDevices) {
  std::string why_not;
  if (!load_cuda_backend(&why_not)) GTEST_SKIP() << why_not;
  EXPECT_FALSE(cuda_backend().runtime_version.empty());
  EXPECT_FALSE(cuda_backend().nccl_version.empty());
  for (const CudaDevice& device : cuda_backend().devices) {
    EXPECT_FALSE(device.name.empty());
    EXPECT_GE(device.major, 8);
    EXPECT_GT(device.memory_bytes, 0);
  }
}

}  // namespace
}  // namespace lorikeet
