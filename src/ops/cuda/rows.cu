// The row kernels that are compiled, and how they are launched.
#include "rows.h"

#include <lorikeet_device.h>

#include "cross_entropy.cuh"
#include "rms_norm.cuh"
#include "rope.cuh"

namespace lorikeet::ops::cuda {

void launch_rope(const RopeArguments& arguments, bool is_float, int blocks, void* stream) {
  device::launch("rope", is_float ? rope<true> : rope<false>, {blocks, kRowThreads, 0},
                 device::to_stream(stream), arguments);
}

void launch_cross_entropy(const CrossEntropyArguments& arguments, bool is_float, int blocks,
                          void* stream) {
  device::launch("cross_entropy", is_float ? cross_entropy<true> : cross_entropy<false>,
                 {blocks, kRowThreads, static_cast<int>(sizeof(SoftmaxShared))},
                 device::to_stream(stream), arguments);
}

void launch_rms_norm(const RmsNormArguments& arguments, bool is_float, int blocks, void* stream) {
  device::launch("rms_norm", is_float ? rms_norm<true> : rms_norm<false>, {blocks, kRowThreads, 0},
                 device::to_stream(stream), arguments);
}

void launch_rms_norm_input(const RmsNormInputArguments& arguments, bool is_float, int blocks,
                           void* stream) {
  device::launch("rms_norm_input", is_float ? rms_norm_input<true> : rms_norm_input<false>,
                 {blocks, kRowThreads, 0}, device::to_stream(stream), arguments);
}

void launch_rms_norm_weight(const RmsNormWeightArguments& arguments, bool is_float, int blocks,
                            void* stream) {
  device::launch("rms_norm_weight", is_float ? rms_norm_weight<true> : rms_norm_weight<false>,
                 {blocks, kRowThreads, static_cast<int>(sizeof(NormShared))},
                 device::to_stream(stream), arguments);
}

}  // namespace lorikeet::ops::cuda
