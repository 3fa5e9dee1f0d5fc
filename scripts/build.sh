#!/usr/bin/env bash
# Installs what is missing, configures and builds: build/lorikeet, build/liblorikeet_ops.so and the tests.
#
#   scripts/build.sh [CMAKE OPTION...]       for example -DLORIKEET_CUDA=OFF
#
# LORIKEET_BUILD names another build folder, LORIKEET_JOBS how many files are compiled at once.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
"$source_dir/scripts/bootstrap.sh"
# The precompiled header takes several hundred MB for each of its variants: in ccache's default of 5 GB it
# would push the rest out. Set once, so that another size stays; a cache named by CCACHE_DIR is not ours.
cache=$LORIKEET_DEPS/ccache
if [ -z "${CCACHE_DIR-}" ] && command -v ccache >/dev/null &&
  ! grep -qs '^max_size' "$cache/ccache.conf"; then
  CCACHE_DIR=$cache ccache --max-size 20G >/dev/null
fi
say "configuring in $build_dir"
"$venv/bin/cmake" -G Ninja -S "$source_dir" -B "$build_dir" -DLORIKEET_DEPS="$LORIKEET_DEPS" "$@"
say "building with $(num_jobs) jobs"
NINJA_STATUS='[%f/%t, %e s] ' ninja -C "$build_dir" -j "$(num_jobs)"
say "built $build_dir/lorikeet"
