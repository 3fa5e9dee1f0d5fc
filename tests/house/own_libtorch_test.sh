#!/usr/bin/env bash
# A LibTorch of the user's own, named by CMAKE_PREFIX_PATH, wins over the one in LORIKEET_DEPS; no LibTorch
# and one that is too old are clear errors. usage: own_libtorch_test.sh CMAKE SOURCE SCRATCH DEPS TORCH
set -euo pipefail
cmake=$1 source=$2 scratch=$3 deps=$4 torch=$5
rm -rf "$scratch"
mkdir -p "$scratch/elsewhere" "$scratch/old/include/torch/csrc/api/include/torch"
ln -s "$torch" "$scratch/elsewhere/libtorch"
touch "$scratch/old/include/torch/csrc/api/include/torch/torch.h"

configure() {
  "$cmake" -G Ninja -S "$source" -B "$scratch/build" -DLORIKEET_CUDA=OFF -DBUILD_TESTING=OFF "$@" 2>&1
}
holds() { grep -q "$1" <<<"$2" || { printf 'expected "%s" in:\n%s\n' "$1" "$2"; exit 1; }; }
refuses() {
  local pattern=$1 output
  shift
  if output=$(configure "$@"); then
    printf 'accepted, though "%s"\n' "$pattern"
    exit 1
  fi
  holds "$pattern" "$(tr -s '[:space:]' ' ' <<<"$output")"  # CMake wraps its errors
}

if [[ $torch == "$deps"/* ]]; then
  holds "LibTorch 2.*: $torch\$" "$(configure -DLORIKEET_DEPS="$deps" -DCMAKE_PREFIX_PATH=)"
fi
for prefix in libtorch libtorch/share/cmake; do  # the same build folder: a changed path must be seen
  holds "LibTorch 2.*: $scratch/elsewhere/libtorch\$" \
    "$(configure -DLORIKEET_DEPS="$deps" -DCMAKE_PREFIX_PATH="$scratch/elsewhere/$prefix")"
done
refuses '2.11 or later is needed' -DLORIKEET_DEPS="$deps" -DCMAKE_PREFIX_PATH="$scratch/old"
refuses 'LibTorch was not found' -DLORIKEET_DEPS="$scratch/none" -DCMAKE_PREFIX_PATH=
echo "CMAKE_PREFIX_PATH wins, and what cannot work is refused"
