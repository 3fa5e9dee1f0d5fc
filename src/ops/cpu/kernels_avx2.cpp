#if defined(__x86_64__)
#include <cstdint>

namespace lorikeet::ops::cpu {
namespace {
constexpr int64_t kVectorBytes = 32;
}
}  // namespace lorikeet::ops::cpu

#include "kernels.inc"

namespace lorikeet::ops::cpu {
const VectorKernels kAvx2Kernels = kThisLevel;
}
#endif
