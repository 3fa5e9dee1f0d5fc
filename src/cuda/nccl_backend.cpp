#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include "lorikeet/parallel/nccl_factory.h"

namespace lorikeet {
namespace {

c10::intrusive_ptr<c10d::Backend> make_nccl_backend(const c10::intrusive_ptr<c10d::Store>& store,
                                                    int rank, int size,
                                                    std::chrono::milliseconds timeout) {
  auto options = c10d::ProcessGroupNCCL::Options::create(/*is_high_priority_stream=*/true);
  options->timeout = timeout;
  return c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, size, options);
}

}  // namespace
}  // namespace lorikeet

// A pointer to the function, looked up by its name: the program links no NCCL.
extern "C" const lorikeet::MakeNcclBackend lorikeet_cuda_make_nccl_backend;
const lorikeet::MakeNcclBackend lorikeet_cuda_make_nccl_backend = lorikeet::make_nccl_backend;
