#include <cstdint>

namespace lorikeet::ops::cpu {
namespace {
constexpr int64_t kVectorBytes = 16;
}
}  // namespace lorikeet::ops::cpu

#include "kernels.inc"

namespace lorikeet::ops::cpu {
const VectorKernels kPortableKernels = kThisLevel;
}
