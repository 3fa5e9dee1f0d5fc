#!/usr/bin/env bash
# Installs into a scratch folder; another project finds it with find_package(Lorikeet), builds and runs;
# the installed program runs. usage: install_test.sh CMAKE SOURCE BUILD SCRATCH [CMAKE OPTION...]
set -euo pipefail
cmake=$1 source=$2 build=$3 scratch=$4
shift 4
rm -rf "$scratch"
"$cmake" --install "$build" --prefix "$scratch/prefix" >/dev/null
"$cmake" -G Ninja -S "$source/tests/house/consumer" -B "$scratch/consumer" \
  -DCMAKE_PREFIX_PATH="$scratch/prefix" "$@"
ninja -C "$scratch/consumer"
cd /
"$scratch/consumer/consumer"
"$scratch/prefix/bin/lorikeet" --version
