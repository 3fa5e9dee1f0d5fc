#include "src/ops/cuda/kernels.cu"
