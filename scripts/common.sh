# Sourced by bootstrap.sh, build.sh and test.sh: where things are, and how progress is told.
set -euo pipefail

source_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
: "${HOME:=$(getent passwd "$(id -u)" | cut -d: -f6)}"
export HOME
# One folder for all clones: the virtual environment and ccache's cache.
LORIKEET_DEPS=$(realpath -m "${LORIKEET_DEPS:-$HOME/.cache/lorikeet}")
export LORIKEET_DEPS
venv=$LORIKEET_DEPS/venv
build_dir=$(realpath -m "${LORIKEET_BUILD:-$source_dir/build}")

# say WORD...: one line of progress, with the seconds since the command began (its sub-commands count on).
export LORIKEET_STARTED=${LORIKEET_STARTED:-$EPOCHSECONDS}
say() { printf '== %4d s  %s\n' $((EPOCHSECONDS - LORIKEET_STARTED)) "$*"; }

# fail ERROR HINT
fail() {
  printf 'error: %s\nhint: %s\n' "$1" "$2" >&2
  exit 1
}

# Compilers at once: one a core, but no more than one for every 2 GiB, which is what a file with LibTorch
# takes.
num_jobs() {
  local cores memory
  cores=$(nproc)
  memory=$(awk '/^MemTotal:/ {print int($2 / 2097152)}' /proc/meminfo)
  echo "${LORIKEET_JOBS:-$((memory < 1 ? 1 : memory < cores ? memory : cores))}"
}
