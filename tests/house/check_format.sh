#!/usr/bin/env bash
# Checks that clang-format 14 (Debian 12's) would change nothing. usage: check_format.sh SOURCE
set -euo pipefail
cd "$1"
find include src tests tools \( -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' \) -print0 |
  xargs -0 -n 20 -P 2 clang-format --dry-run --Werror --style=file ||
  { echo "run: clang-format -i on the files above" >&2; exit 1; }
