#!/usr/bin/env bash
# LORIKEET_CUDA on a machine without nvcc: AUTO and OFF configure and build, ON is a clear error.
# usage: cuda_option_test.sh CMAKE SOURCE SCRATCH DEPS [BUILD_TARGET...]   (default: lorikeet_core)
set -euo pipefail
cmake=$1 source=$2 scratch=$3 deps=$4
shift 4
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
configure() {
  PATH=$path "$cmake" -G Ninja -S "$source" -B "$scratch/$1" -DLORIKEET_CUDA="$1" \
    -DLORIKEET_DEPS="$deps" "-DCMAKE_IGNORE_PATH=$hidden" 2>&1
}
# holds PATTERN TEXT
holds() { grep -q "$1" <<<"$2" || { printf 'expected "%s" in:\n%s\n' "$1" "$2"; exit 1; }; }

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
if output=$(configure ON); then
  echo "LORIKEET_CUDA=ON without nvcc was accepted"
  exit 1
fi
holds 'LORIKEET_CUDA is ON, but nvcc was not found' "$(tr -s '[:space:]' ' ' <<<"$output")"  # CMake wraps
echo "without nvcc: AUTO and OFF configure and build, ON is refused"
