#include "src/ops/cuda/rows.cu"
