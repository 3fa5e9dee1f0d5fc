#!/usr/bin/env bash
# liblorikeet_cuda.so opens with every symbol resolved, brings LibTorch's CUDA half from the LibTorch it was
# built with, and answers, on a machine with or without a GPU. usage: cuda_library_test.sh PYTHON LIBRARY TORCH
set -euo pipefail
cd /
needed=$(ldd "$2")
grep -q 'not found' <<<"$needed" && { echo "$needed"; exit 1; }
grep -q "libtorch_cuda.so => $3/lib/libtorch_cuda.so" <<<"$needed" || { echo "$needed"; exit 1; }
"$1" - "$2" <<'PYTHON'
import ctypes, os, sys
library = ctypes.CDLL(sys.argv[1], mode=os.RTLD_NOW | os.RTLD_GLOBAL)
print("opened, and it exports", library.lorikeet_cuda_describe.__name__)
PYTHON
