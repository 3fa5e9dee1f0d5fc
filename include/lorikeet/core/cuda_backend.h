#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace lorikeet {

/// One GPU as the CUDA runtime reports it.
struct CudaDevice {
  std::string name;
  int major = 0;  ///< compute capability, 9.0 for an H100
  int minor = 0;
  int64_t memory_bytes = 0;
};

/// What liblorikeet_cuda.so found on this machine.
struct CudaBackend {
  std::string runtime_version;  ///< of the CUDA runtime that LibTorch uses, "13.0"
  std::string nccl_version;     ///< "2.28.9"
  std::vector<CudaDevice> devices;
};

/// Opens liblorikeet_cuda.so, which brings in LibTorch's CUDA half and NCCL; the program itself
/// links neither. It is looked for beside the program, in ../lib, and on the program's library
/// path.
/// @return whether the CUDA back end can be used: the library is there, an NVIDIA driver is
/// installed and
///   at least one GPU answers. Otherwise false, and `why_not` (where given) says which of these
///   failed.
/// The work is done at the first call; later calls repeat its answer. Thread-safe.
bool load_cuda_backend(std::string* why_not = nullptr);

/// What was found. Empty unless load_cuda_backend() answered true.
const CudaBackend& cuda_backend();

/// What liblorikeet_cuda.so exports under a name; null where the library is not open or lacks it.
void* cuda_symbol(const char* name);

namespace detail {
/// The function that liblorikeet_cuda.so exports as `lorikeet_cuda_describe`. Fills `backend`;
/// returns nullptr, or why no GPU can be used (a string that stays valid).
using DescribeCuda = const char* (*)(CudaBackend* backend);
}  // namespace detail

}  // namespace lorikeet
