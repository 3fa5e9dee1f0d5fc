#pragma once
// What the tests of row kernels have in common.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "src/ops/cuda/host/work.h"
#include "tests/emulation/emulator.h"

namespace lorikeet::emulation {

inline double relative_error(const torch::Tensor& actual, const torch::Tensor& expected) {
  return ((actual.to(torch::kDouble) - expected).norm() / expected.norm()).item<double>();
}

inline Report expect_no_faults() {
  Report report = take_report();
  EXPECT_EQ(report.num_faults, 0) << report.text();
  return report;
}

inline void expect_work(const Counts& counted, const ops::cuda::Work& computed) {
  EXPECT_EQ(counted.global_read_bytes, computed.global_read_bytes);
  EXPECT_EQ(counted.global_written_bytes, computed.global_written_bytes);
  EXPECT_EQ(counted.touched_read_bytes, computed.touched_read_bytes);
  EXPECT_EQ(counted.touched_written_bytes, computed.touched_written_bytes);
}

}  // namespace lorikeet::emulation
