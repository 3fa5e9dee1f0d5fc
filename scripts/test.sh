#!/usr/bin/env bash
# Installs what is missing, builds, and runs every test that is not labelled slow.
#
#   scripts/test.sh [--all] [CTEST OPTION...]     --all: the slow ones too
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
selection=(-LE slow)
if [ "${1-}" = --all ]; then
  selection=()
  shift
fi
"$source_dir/scripts/build.sh"
say "testing"
status=0
"$venv/bin/ctest" --test-dir "$build_dir" -j2 --output-on-failure --no-tests=error \
  "${selection[@]}" "$@" </dev/null || status=$?
say "$([ $status = 0 ] && echo "all tests passed" || echo "some tests failed")"
exit $status
