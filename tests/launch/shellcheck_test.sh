#!/usr/bin/env bash
# What runs on other people's clusters passes shellcheck. usage: shellcheck_test.sh SOURCE
set -euo pipefail
command -v shellcheck >/dev/null || { echo "skipped: shellcheck is not installed"; exit 77; }
cd "$1/scripts"
shellcheck --shell=bash --external-sources --source-path=SCRIPTDIR --source-path="$1" \
  launch/*.sh launch/slurm.sbatch package.sh
echo "shellcheck finds nothing"
