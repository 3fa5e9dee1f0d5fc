#!/usr/bin/env bash
# The runs of docs/results.md: configs/small.yaml and its relatives on a corpus of JSONL files, two at a time
# with one thread each; then the table. Called again, it goes on where it was stopped.
#
#   scripts/small_runs.sh CORPUS_FOLDER
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
corpus=$(realpath "${1:?the folder of the corpus: *.jsonl.gz files}")
cd "$source_dir"
lorikeet=$build_dir/lorikeet
data=runs/small-data
mkdir -p "$data"

if [ ! -e "$data/tokenizer.model" ]; then
  "$lorikeet" data tokenizer --input "$corpus"/*.jsonl.gz --vocab-size 8192 --sample-bytes 30M \
    --output "$data/tokenizer.model"
fi
"$lorikeet" data tokenize --input "$corpus"/*.jsonl.gz --tokenizer "$data/tokenizer.model" \
  --held-out 4% --output "$data/shards"

# run NAME [KEY=VALUE...]
run() {
  local name=$1 settings=() setting
  shift
  for setting in "$@"; do settings+=(--set "$setting"); done
  say "$name begins"
  "$lorikeet" pretrain configs/small.yaml --set name="$name" --set train.threads=1 "${settings[@]}" \
    >"$data/$name.out" 2>&1 || fail "$name failed" "$data/$name.out says why"
  say "$name is finished"
}

ffn=model.feed_forward
short=train.steps=100  # its whole schedule in 100 steps: compare these with each other alone
(
  run short_causal $short
  run short_prefix $short $ffn.routing=prefix
  run small_causal
) &
(
  run short_dense $short $ffn.kind=dense
  run short_independent $short $ffn.expert_init=independent
  run short_warmup $short $ffn.expert_init=copied train.dense_warmup=5%
  run small_dense $ffn.kind=dense
)
wait $!
"$venv/bin/python" scripts/results_table.py runs small_dense small_causal \
  short_dense short_causal short_prefix short_warmup short_independent
