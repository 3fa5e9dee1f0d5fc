#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "src/ops/cuda/types.h"
#include "tests/emulation/collectives.h"
#include "tests/emulation/emulator.h"

/// The device interface on the CPU: what src/ops/cuda/nvcc/lorikeet_device.h declares and explains.
#define LORIKEET_DEVICE inline
#define LORIKEET_KERNEL(threads, blocks_per_sm) void
#define LORIKEET_UNROLL
#define LORIKEET_UNROLL_TWICE

namespace lorikeet::device {

using emulation::Place;
using ops::cuda::bf16;
using ops::cuda::TokenTile;
using ops::cuda::Words4;
struct Stream {};
inline Stream to_stream(void*) { return {}; }

inline int thread() { return emulation::here.thread; }
inline int block() { return emulation::here.block; }
inline int num_blocks() { return emulation::here.num_blocks; }

template <class Layout>
Layout& shared_memory() {
  return *static_cast<Layout*>(emulation::here.shared);
}

inline void sync_block(Place place = Place::current()) { emulation::wait_for_block(place); }
inline void sync_warp(Place place = Place::current()) {
  emulation::wait_for_warp(nullptr, nullptr, /*orders_memory=*/true, place);
}
inline float shuffle_xor(float value, int mask, Place place = Place::current()) {
  emulation::Shuffle mine{value, 0, mask};
  emulation::wait_for_warp(emulation::shuffle_all, &mine, /*orders_memory=*/false, place);
  return mine.result;
}

inline void copy_async16(bf16* shared, const bf16* global, bool is_valid) {
  emulation::start_copy(shared, global, 16, is_valid);
}
inline void commit_copies() { emulation::commit_copies(); }
template <int kPending>
void wait_copies() {
  emulation::wait_copies(kPending);
}

inline void load_matrices(uint32_t (&r)[4], const bf16* row, Place place = Place::current()) {
  emulation::touch_shared(row, 16, /*is_write=*/false);
  emulation::LoadMatrices mine{r, reinterpret_cast<const uint16_t*>(row)};
  emulation::wait_for_warp(emulation::load_matrices_all, &mine, /*orders_memory=*/false, place);
}
inline void load_matrices_transposed(uint32_t (&r)[4], const bf16* row,
                                     Place place = Place::current()) {
  emulation::touch_shared(row, 16, /*is_write=*/false);
  emulation::LoadMatrices mine{r, reinterpret_cast<const uint16_t*>(row)};
  emulation::wait_for_warp(emulation::load_matrices_transposed_all, &mine, /*orders_memory=*/false,
                           place);
}
inline void multiply_add(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                         Place place = Place::current()) {
  emulation::MultiplyAdd mine{d, a, {b0, b1}};
  emulation::wait_for_warp(emulation::multiply_add_all, &mine, /*orders_memory=*/false, place);
}

/// The interface's own way to global memory, which touch() would not allow a kernel.
template <class T>
__attribute__((no_sanitize("thread"), noinline)) T load_global(const void* p) {
  emulation::touch_global(p, sizeof(T), /*is_write=*/false);
  T value;
  std::memcpy(&value, p, sizeof(T));
  return value;
}
template <class T>
__attribute__((no_sanitize("thread"), noinline)) void store_global(void* p, const T& value) {
  emulation::touch_global(p, sizeof(T), /*is_write=*/true);
  std::memcpy(p, &value, sizeof(T));
}
inline Words4 load16(const void* p) { return load_global<Words4>(p); }
inline uint32_t load4(const void* p) { return load_global<uint32_t>(p); }
inline float load_float(const float* p) { return load_global<float>(p); }
inline void store16(void* p, const Words4& v) { store_global(p, v); }
inline void store4(void* p, uint32_t v) { store_global(p, v); }
inline void store_float(float* p, float v) { store_global(p, v); }
inline TokenTile load_tile(const TokenTile* p) { return load_global<TokenTile>(p); }

inline float as_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
inline uint32_t as_bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}
inline uint32_t round_to_bf16(float value) {
  const uint32_t bits = as_bits(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
  return (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
}
inline uint32_t pack(float low, float high) {
  return round_to_bf16(low) | round_to_bf16(high) << 16;
}
inline float exp(float x) { return std::exp(x); }
inline float log(float x) { return std::log(x); }
inline float rsqrt(float x) { return 1.0f / std::sqrt(x); }
inline float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

template <class Arguments>
void launch(const char* name, void (*kernel)(Arguments), const ops::cuda::LaunchShape& shape,
            Stream, const Arguments& arguments) {
  emulation::run(name, shape.blocks, shape.threads, static_cast<size_t>(shape.shared_bytes),
                 [&] { kernel(arguments); });
}

}  // namespace lorikeet::device
