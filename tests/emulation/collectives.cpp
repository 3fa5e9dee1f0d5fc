#include "tests/emulation/collectives.h"

#include <algorithm>
#include <cstring>

#include "tests/emulation/emulator.h"

namespace lorikeet::emulation {

namespace {

constexpr int kLanes = 32;

template <class Brought>
Brought& at(void* const* lanes, int lane) {
  return *static_cast<Brought*>(lanes[lane]);
}

float half(uint32_t word, int high) {
  const uint32_t bits = high ? word & 0xffff0000u : word << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// Shared memory has 32 banks of 4 bytes: the 8 rows of a matrix, 16 bytes each, are read in one
// cycle if they lie in different sixteenths of 128 bytes.
int conflicts_of_rows(void* const* lanes, int matrix) {
  int rows[8] = {};
  for (int row = 0; row < 8; ++row) {
    ++rows[reinterpret_cast<uintptr_t>(at<LoadMatrices>(lanes, matrix * 8 + row).row) / 16 % 8];
  }
  return *std::max_element(rows, rows + 8) - 1;
}

template <bool kTransposed>
void load(void* const* lanes) {
  int64_t conflicts = 0;
  for (int matrix = 0; matrix < 4; ++matrix) {
    conflicts += conflicts_of_rows(lanes, matrix);
    const auto element = [&](int row, int column) {
      return uint32_t{at<LoadMatrices>(lanes, matrix * 8 + row).row[column]};
    };
    for (int lane = 0; lane < kLanes; ++lane) {
      const int i = lane / 4, j = lane % 4 * 2;
      at<LoadMatrices>(lanes, lane).r[matrix] = kTransposed
                                                    ? element(j, i) | element(j + 1, i) << 16
                                                    : element(i, j) | element(i, j + 1) << 16;
    }
  }
  count_matrix_read(kLanes * 16, conflicts);
}

}  // namespace

void shuffle_all(void* const* lanes) {
  for (int lane = 0; lane < kLanes; ++lane) {
    Shuffle& mine = at<Shuffle>(lanes, lane);
    mine.result = at<Shuffle>(lanes, lane ^ mine.mask).value;
  }
}

void load_matrices_all(void* const* lanes) { load<false>(lanes); }
void load_matrices_transposed_all(void* const* lanes) { load<true>(lanes); }

void multiply_add_all(void* const* lanes) {
  float a[16][16], b[16][8];
  for (int lane = 0; lane < kLanes; ++lane) {
    const MultiplyAdd& mine = at<MultiplyAdd>(lanes, lane);
    const int group = lane / 4, pair = lane % 4 * 2;
    for (int h = 0; h < 2; ++h) {
      for (int r = 0; r < 4; ++r) a[group + r % 2 * 8][pair + r / 2 * 8 + h] = half(mine.a[r], h);
      for (int r = 0; r < 2; ++r) b[pair + r * 8 + h][group] = half(mine.b[r], h);
    }
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    float* d = at<MultiplyAdd>(lanes, lane).d;
    for (int r = 0; r < 4; ++r) {
      const int row = lane / 4 + r / 2 * 8, column = lane % 4 * 2 + r % 2;
      float sum = d[r];
      for (int k = 0; k < 16; ++k) sum += a[row][k] * b[k][column];
      d[r] = sum;
    }
  }
  count_flops(2 * 16 * 8 * 16);
}

}  // namespace lorikeet::emulation
