#pragma once
#include <cstdint>

/// What a warp does together, computed for its 32 lanes at once from what each brought. Fragment
/// layouts: PTX ISA, "Matrix Fragments for mma.m16n8k16" and "ldmatrix".
namespace lorikeet::emulation {

struct Shuffle {
  float value, result;
  int mask;
};
void shuffle_all(void* const* lanes);

struct LoadMatrices {
  uint32_t* r;          // 4
  const uint16_t* row;  // 8
};
void load_matrices_all(void* const* lanes);
void load_matrices_transposed_all(void* const* lanes);

struct MultiplyAdd {
  float* d;           // 4
  const uint32_t* a;  // 4
  uint32_t b[2];
};
void multiply_add_all(void* const* lanes);

}  // namespace lorikeet::emulation
