#!/usr/bin/env bash
# LORIKEET_CUDA on a machine without nvcc, and with one of another CUDA than LibTorch's: AUTO and OFF configure
# and build, ON is a clear error; and so is any other value.
# usage: cuda_option_test.sh CMAKE SOURCE SCRATCH DEPS TORCH [BUILD_TARGET...]   (default: lorikeet_core)
set -euo pipefail
cmake=$1 source=$2 scratch=$3 deps=$4 torch=$5
shift 5
targets=("${@:-lorikeet_core}")
rm -rf "$scratch"

# Hides nvcc: from the environment, from PATH and from the places that CMake looks in by itself.
unset CUDACXX CUDA_HOME CUDA_PATH CUDAToolkit_ROOT
hidden=
path=
IFS=: read -ra folders <<<"$PATH:/usr/local/cuda/bin"
for folder in "${folders[@]}"; do
  if [ -x "$folder/nvcc" ]; then
    hidden+="${hidden:+;}$folder;$(realpath "$folder")"
  else
    path+="${path:+:}$folder"
  fi
done
# configure OPTION [CMAKE OPTION...]
configure() {
  local option=$1
  shift
  PATH=$path "$cmake" -G Ninja -S "$source" -B "$scratch/$option" -DLORIKEET_CUDA="$option" \
    -DLORIKEET_DEPS="$deps" -DCMAKE_PREFIX_PATH="$torch" "-DCMAKE_IGNORE_PATH=$hidden" "$@" 2>&1
}
# holds PATTERN TEXT
holds() { grep -q -- "$1" <<<"$2" || { printf 'expected "%s" in:\n%s\n' "$1" "$2"; exit 1; }; }
# refuses PATTERN OPTION [CMAKE OPTION...]
refuses() {
  local pattern=$1 output
  shift
  if output=$(configure "$@"); then
    echo "accepted: LORIKEET_CUDA=$*"
    exit 1
  fi
  holds "$pattern" "$(tr -s '[:space:]' ' ' <<<"$output")"  # CMake wraps
}

for option in AUTO OFF; do
  holds 'CUDA: not built' "$(configure $option)"
  ninja -C "$scratch/$option" "${targets[@]}" >"$scratch/log" || { cat "$scratch/log"; exit 1; }
  if [ -e "$scratch/$option/liblorikeet_cuda.so" ]; then
    echo "liblorikeet_cuda.so was built without nvcc"
    exit 1
  fi
  if [ -x "$scratch/$option/lorikeet" ]; then
    holds '^CUDA: *not built' "$("$scratch/$option/lorikeet" --version)"
  fi
done
refuses 'LORIKEET_CUDA is ON, but nvcc was not found' ON
refuses "LORIKEET_CUDA is 'FOO': it must be AUTO, ON or OFF" FOO
echo "without nvcc: AUTO and OFF configure and build, ON is refused"

if [ ! -e "$torch/lib/libtorch_cuda.so" ]; then
  echo "LibTorch has no CUDA: an nvcc of another CUDA was not tried"
  exit 0
fi
mkdir -p "$scratch/toolkit/bin"
cat >"$scratch/toolkit/bin/nvcc" <<'FAKE'
#!/bin/sh
echo "Cuda compilation tools, release 12.4, V12.4.131"
FAKE
chmod +x "$scratch/toolkit/bin/nvcc"
toolkit=-DCUDAToolkit_ROOT=$scratch/toolkit
unfit='nvcc is of release 12.4, not of LibTorch.s CUDA\|CMake .* cannot set C++20 for nvcc'
holds "CUDA: not built, .*\($unfit\)" "$(configure auto "$toolkit")"
refuses "LORIKEET_CUDA is ON, but .*\($unfit\)" ON "$toolkit"
echo "with an nvcc that does not fit: AUTO does without, ON is refused"
