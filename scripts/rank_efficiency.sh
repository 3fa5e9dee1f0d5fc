#!/usr/bin/env bash
# Tokens/s of one process with two threads against two ranks with one thread each (replicas, ZeRO-1, ZeRO-3), the same
# global batch, in turn; docs/parallel.md. For a quiet machine with two cores; some minutes.
#
#   scripts/rank_efficiency.sh SHARDS [STEPS]
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
shards=$(realpath "${1:?a folder made by lorikeet data tokenize}")
steps=${2:-4}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export GLOO_SOCKET_IFNAME=lo OMP_NUM_THREADS=2

# run NAME LAUNCHER... -- KEY=VALUE...
run() {
  local name=$1 launcher=() settings=()
  shift
  while [ "$1" != -- ]; do launcher+=("$1"); shift; done
  shift
  for setting in "$@"; do settings+=(--set "$setting"); done
  "${launcher[@]}" "$build_dir/lorikeet" pretrain "$source_dir/configs/small.yaml" --set name="$name" \
    --set output="$folder" --set data.shards="$shards" --set train.steps="$steps" --set log.every=1steps \
    --set evaluate.every=never --set evaluate.batches=1 --set checkpoint.every=never "${settings[@]}" >"$folder/$name.out" 2>&1 ||
    fail "$name failed" "$(tail -2 "$folder/$name.out")"
}
torchrun=("$venv/bin/torchrun" --no-python --nproc-per-node 2)

run one -- train.threads=2
run replicas "${torchrun[@]}" -- train.threads=1 parallel.replicate=2
run zero1 "${torchrun[@]}" -- train.threads=1 parallel.shard=2 parallel.zero=1
run zero3 "${torchrun[@]}" -- train.threads=1 parallel.shard=2 parallel.zero=3
run again -- train.threads=2
"$venv/bin/python" - "$folder" <<'PYTHON'
import json, statistics, sys

def rate(name):
    with open(f"{sys.argv[1]}/{name}/metrics.jsonl") as file:
        rows = [json.loads(line) for line in file]
    return statistics.median([r["tokens_per_second"] for r in rows if "loss" in r][1:])

one = statistics.mean([rate("one"), rate("again")])
for name in ["one", "again", "replicas", "zero1", "zero3"]:
    print(f"{name:<10}{rate(name):>10,.0f} tokens/s  {rate(name) / one:6.3f}")
PYTHON
