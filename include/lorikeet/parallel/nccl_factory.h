#pragma once
#include <c10/util/intrusive_ptr.h>

#include <chrono>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

namespace lorikeet {

/// A function of liblorikeet_cuda.so that makes a group's NCCL back end, and the name of the
/// pointer to it there.
using MakeNcclBackend =
    c10::intrusive_ptr<c10d::Backend> (*)(const c10::intrusive_ptr<c10d::Store>& store, int rank,
                                          int size, std::chrono::milliseconds timeout);
inline constexpr char kMakeNcclBackend[] = "lorikeet_cuda_make_nccl_backend";

}  // namespace lorikeet
