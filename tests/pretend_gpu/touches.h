#pragma once
#include <cstdint>
#include <map>
#include <string>

/// A GPU that is none: LibTorch's CUDA device on the CPU, for proving where there is no GPU that
/// the program treats one well. Its memory is the CPU's, its kernels are the CPU's, its streams do
/// at once what they are given; but tensors on it are CUDA tensors to LibTorch and to the program,
/// and what would keep a GPU and the thread that feeds it waiting for each other is written down.
namespace lorikeet::pretend_gpu {

/// One more of these, such as "wait: nonzero" or "from pageable memory: long [12]". Thread-safe.
void touch(const std::string& what);

/// How often each has happened in this process. Where LORIKEET_PRETEND_GPU_REPORT names a file,
/// they are written there when the process ends, a line each: count, tab, what.
std::map<std::string, int64_t> touches();

}  // namespace lorikeet::pretend_gpu
