#include "lorikeet/core/cuda_backend.h"
#include "lorikeet/core/error.h"
#include "lorikeet/parallel/device_mesh.h"
#include "lorikeet/parallel/nccl_factory.h"

namespace lorikeet {

BackendFactory nccl_backend(std::chrono::milliseconds timeout) {
  std::string why_not;
  const auto* found = load_cuda_backend(&why_not)
                          ? static_cast<const MakeNcclBackend*>(cuda_symbol(kMakeNcclBackend))
                          : nullptr;
  if (found == nullptr) {
    throw Error(ExitCode::kUsage, "NCCL is not available here: " + why_not,
                "set train.device to cpu, or build with CUDA");
  }
  return [make = *found, timeout](const c10::intrusive_ptr<c10d::Store>& store, int rank,
                                  int size) { return make(store, rank, size, timeout); };
}

}  // namespace lorikeet
