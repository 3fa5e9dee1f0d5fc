#pragma once
#include <string>
#include <vector>

namespace lorikeet {

/// Which of the vector and matrix extensions that kernels choose by this processor has *and* the
/// operating system lets a program use: avx2, fma, avx512f, avx512_vnni, avx512_bf16, amx_tile,
/// amx_bf16, amx_int8. In that order, by Linux's names. Empty on processors other than x86-64.
std::vector<std::string> cpu_features();

}  // namespace lorikeet
