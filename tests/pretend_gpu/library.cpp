// What the program looks for in liblorikeet_cuda.so. Collectives are Gloo's on the same memory, by
// NCCL's name, so that the program takes NCCL's ways.
#include <ATen/ATen.h>

#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include "lorikeet/core/cuda_backend.h"
#include "lorikeet/parallel/nccl_factory.h"

namespace lorikeet::pretend_gpu {

namespace {

using Work = c10::intrusive_ptr<c10d::Work>;

at::Tensor on_host(const at::Tensor& tensor) {
  return at::from_blob(tensor.data_ptr(), tensor.sizes(), tensor.options().device(at::kCPU));
}

class Collectives : public c10d::Backend {
 public:
  Collectives(c10::intrusive_ptr<c10d::Backend> gloo, int rank, int size)
      : c10d::Backend(rank, size), gloo_(std::move(gloo)) {}
  const std::string getBackendName() const override { return "nccl"; }

  Work allreduce(std::vector<at::Tensor>& tensors, const c10d::AllreduceOptions& options) override {
    std::vector<at::Tensor> host = {on_host(tensors.at(0))};
    return gloo_->allreduce(host, options);
  }
  Work broadcast(std::vector<at::Tensor>& tensors, const c10d::BroadcastOptions& options) override {
    std::vector<at::Tensor> host = {on_host(tensors.at(0))};
    return gloo_->broadcast(host, options);
  }
  Work _allgather_base(at::Tensor& all, at::Tensor& mine,
                       const c10d::AllgatherOptions& options) override {
    at::Tensor host_all = on_host(all), host_mine = on_host(mine);
    return gloo_->_allgather_base(host_all, host_mine, options);
  }
  Work _reduce_scatter_base(at::Tensor& mine, at::Tensor& all,
                            const c10d::ReduceScatterOptions& options) override {
    at::Tensor host_all = on_host(all), host_mine = on_host(mine);
    return gloo_->_reduce_scatter_base(host_mine, host_all, options);
  }
  Work barrier(const c10d::BarrierOptions& options) override { return gloo_->barrier(options); }

 private:
  c10::intrusive_ptr<c10d::Backend> gloo_;
};

c10::intrusive_ptr<c10d::Backend> make(const c10::intrusive_ptr<c10d::Store>& store, int rank,
                                       int size, std::chrono::milliseconds timeout) {
  auto options = c10d::ProcessGroupGloo::Options::create(timeout);
  options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForInterface("lo"));
  return c10::make_intrusive<Collectives>(
      c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, size, options), rank, size);
}

}  // namespace
}  // namespace lorikeet::pretend_gpu

extern "C" const char* lorikeet_cuda_describe(lorikeet::CudaBackend* backend) {
  backend->runtime_version = "none";
  backend->nccl_version = "none";
  backend->devices.assign(4, {"pretend GPU", 8, 0, int64_t{1} << 30});
  return nullptr;
}

extern "C" const lorikeet::MakeNcclBackend lorikeet_cuda_make_nccl_backend;
const lorikeet::MakeNcclBackend lorikeet_cuda_make_nccl_backend = lorikeet::pretend_gpu::make;
