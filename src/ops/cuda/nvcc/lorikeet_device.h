#pragma once
#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>

#include "src/ops/cuda/types.h"

/// The device interface: all that the kernels of src/ops/cuda know of a GPU. This is its CUDA side;
/// tests/emulation/lorikeet_device.h is the same interface on the CPU. The include path chooses.
///
/// Kernels touch global memory only through load*, store* and copy_async16, so that the emulator
/// can count and check it; shared memory they may also read and write as plain C++.
#define LORIKEET_DEVICE __device__ __forceinline__
#define LORIKEET_KERNEL(threads, blocks_per_sm) \
  __global__ void __launch_bounds__(threads, blocks_per_sm)
#define LORIKEET_UNROLL _Pragma("unroll")
#define LORIKEET_UNROLL_TWICE _Pragma("unroll 2")  // more would take registers that there are not

namespace lorikeet::device {

using ops::cuda::bf16;
using ops::cuda::TokenTile;
using ops::cuda::Words4;
using Stream = cudaStream_t;
inline Stream to_stream(void* handle) { return static_cast<Stream>(handle); }

LORIKEET_DEVICE int thread() { return static_cast<int>(threadIdx.x); }
LORIKEET_DEVICE int block() { return static_cast<int>(blockIdx.x); }
LORIKEET_DEVICE int num_blocks() { return static_cast<int>(gridDim.x); }

/// The block's dynamic shared memory, 128-byte aligned, uninitialised.
template <class Layout>
LORIKEET_DEVICE Layout& shared_memory() {
  extern __shared__ __align__(128) unsigned char lorikeet_shared[];
  return *reinterpret_cast<Layout*>(lorikeet_shared);
}

/// All threads of the block come here before one goes on, and see what each wrote before.
LORIKEET_DEVICE void sync_block() { __syncthreads(); }
/// The same for the 32 threads of a warp.
LORIKEET_DEVICE void sync_warp() { __syncwarp(); }
/// The value of lane (own lane xor `mask`). Orders no memory.
LORIKEET_DEVICE float shuffle_xor(float value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}

/// Starts a copy of 16 bytes, both ends 16-byte aligned, into shared memory; of 16 zero bytes, and
/// `global` is not read, where not `is_valid`.
LORIKEET_DEVICE void copy_async16(bf16* shared, const bf16* global, bool is_valid) {
  const auto to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  const int bytes = is_valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(bytes)
               : "memory");
}
/// Closes the thread's current group of copies.
LORIKEET_DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits for the thread's own groups, all but the `kPending` closed last.
template <int kPending>
LORIKEET_DEVICE void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

/// Four 8x8 matrices of bf16 from shared memory: lane 8 i + r names row r of matrix i (16 bytes,
/// aligned); register i of a lane holds elements (lane / 4, lane % 4 * 2 .. + 1) of matrix i.
LORIKEET_DEVICE void load_matrices(uint32_t (&r)[4], const bf16* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
}
/// The same with every matrix transposed.
LORIKEET_DEVICE void load_matrices_transposed(uint32_t (&r)[4], const bf16* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
}
/// d[16, 8] += a[16, 16] b[16, 8] in fp32; fragments as PTX's mma.m16n8k16 has them.
LORIKEET_DEVICE void multiply_add(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// Global memory, aligned to its size.
LORIKEET_DEVICE Words4 load16(const void* p) {
  const uint4 v = *static_cast<const uint4*>(p);
  return {{v.x, v.y, v.z, v.w}};
}
LORIKEET_DEVICE uint32_t load4(const void* p) { return *static_cast<const uint32_t*>(p); }
LORIKEET_DEVICE float load_float(const float* p) { return *p; }
LORIKEET_DEVICE void store16(void* p, const Words4& v) {
  *static_cast<uint4*>(p) = make_uint4(v.w[0], v.w[1], v.w[2], v.w[3]);
}
LORIKEET_DEVICE void store4(void* p, uint32_t v) { *static_cast<uint32_t*>(p) = v; }
LORIKEET_DEVICE void store_float(float* p, float v) { *p = v; }
LORIKEET_DEVICE TokenTile load_tile(const TokenTile* p) {
  const int4 v = *reinterpret_cast<const int4*>(p);
  return {v.x, v.y, v.z, v.w};
}

/// Two floats rounded to bf16, to nearest even; the first in the low half.
LORIKEET_DEVICE uint32_t pack(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
LORIKEET_DEVICE float as_float(uint32_t bits) { return __uint_as_float(bits); }
LORIKEET_DEVICE uint32_t as_bits(float value) { return __float_as_uint(value); }
/// To 2 + 1.2 |x| units in the last place of fp32; 0 below -87.
LORIKEET_DEVICE float exp(float x) { return __expf(x); }
LORIKEET_DEVICE float log(float x) { return logf(x); }
/// To 2 units in the last place of fp32.
LORIKEET_DEVICE float rsqrt(float x) { return rsqrtf(x); }
/// 1 / (1 + exp(-x)), to a few units in the last place of fp32.
LORIKEET_DEVICE float sigmoid(float x) { return __fdividef(1.0f, 1.0f + __expf(-x)); }

inline void check_cuda(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  throw std::runtime_error(std::string("CUDA kernel lorikeet::") + what + ": " +
                           cudaGetErrorString(error));
}

/// Lets a kernel have more shared memory than every kernel may, and has multiprocessors divided for
/// as many blocks as plans count on. A call a launch is dear: what this thread has allowed on its
/// device is kept.
inline void allow_shared(const char* name, const void* kernel, int bytes) {
  constexpr int kLittle = 8 << 10, kAlwaysAllowed = 48 << 10;
  if (bytes <= kLittle) return;
  thread_local std::map<std::pair<int, const void*>, int> allowed;
  int device = 0;
  check_cuda(cudaGetDevice(&device), name);
  int& most = allowed[{device, kernel}];
  if (bytes <= most) return;
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                  cudaSharedmemCarveoutMaxShared),
             name);
  if (bytes > kAlwaysAllowed) {
    check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
               name);
  }
  most = bytes;
}

/// Puts a kernel on a stream. @param name for messages and for the emulator's counts
template <class Arguments>
void launch(const char* name, void (*kernel)(Arguments), const ops::cuda::LaunchShape& shape,
            Stream stream, const Arguments& arguments) {
  allow_shared(name, reinterpret_cast<const void*>(kernel), shape.shared_bytes);
  void* pointers[] = {const_cast<Arguments*>(&arguments)};
  check_cuda(cudaLaunchKernel(reinterpret_cast<const void*>(kernel), dim3(shape.blocks),
                              dim3(shape.threads), pointers, shape.shared_bytes, stream),
             name);
}

}  // namespace lorikeet::device
