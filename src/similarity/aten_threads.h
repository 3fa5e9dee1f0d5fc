#pragma once
#include <ATen/Parallel.h>

#include <cstdint>

namespace lorikeet {

/// As many threads for what this thread asks of ATen, and of FAISS, whose OpenMP and matrix
/// products are ATen's; before and after it as many as were set.
class AtenThreads {
 public:
  explicit AtenThreads(int64_t count) : before_(at::get_num_threads()) {
    at::set_num_threads(static_cast<int>(count));
  }
  ~AtenThreads() { at::set_num_threads(before_); }
  AtenThreads(const AtenThreads&) = delete;
  AtenThreads& operator=(const AtenThreads&) = delete;

 private:
  int before_;
};

}  // namespace lorikeet
