// What this machine reads and writes, in GB/s of all threads together (OMP_NUM_THREADS): from
// memory, and from the third level of cache where 4 MB a thread fit it. For
// scripts/merged_ffn_bounds.py.
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <vector>

namespace {

using Vector = float __attribute__((vector_size(32)));
constexpr int64_t kSums = 8;  // in flight

/// A thread's share of memory, which it alone touches.
using Share = std::vector<Vector>;

void read(Share& share) {
  Vector sums[kSums] = {};
  for (size_t i = 0; i < share.size(); i += kSums) {
    for (int64_t k = 0; k < kSums; ++k) sums[k] += share[i + k];
  }
  for (const Vector& sum : sums) asm volatile("" ::"x"(sum));
}

void write(Share& share) {
  const Vector value = {1};
  for (Vector& v : share) v = value;
  asm volatile("" ::: "memory");
}

/// GB/s, the best of some repetitions.
double rate(void (*work)(Share&), int64_t bytes_a_thread, int64_t passes) {
  double best = std::numeric_limits<double>::infinity();
  const int threads = omp_get_max_threads();
#pragma omp parallel
  {
    Share share(bytes_a_thread / sizeof(Vector));
    for (int repetition = 0; repetition < 7; ++repetition) {
#pragma omp barrier
      const auto begin = std::chrono::steady_clock::now();
      for (int64_t i = 0; i < passes; ++i) work(share);
#pragma omp barrier
      const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
#pragma omp master
      best = std::min(best, elapsed.count());
    }
  }
  return 1e-9 * static_cast<double>(threads * passes * bytes_a_thread) / best;
}

}  // namespace

int main() {
  constexpr int64_t kMemory = int64_t{256} << 20, kCache = int64_t{4} << 20;
  std::printf("{\"read\": %.1f, \"write\": %.1f, \"cache_read\": %.1f, \"cache_write\": %.1f}\n",
              rate(read, kMemory, 1), rate(write, kMemory, 1), rate(read, kCache, 64),
              rate(write, kCache, 64));
}
