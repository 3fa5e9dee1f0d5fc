#!/usr/bin/env bash
# From a clean machine to a trained Lory model: installs what is missing, builds, prepares the shipped corpus,
# trains, evaluates, and writes a sample. Called again, it goes on where it was stopped.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
"$source_dir/scripts/build.sh"
cd "$source_dir"
lorikeet=$build_dir/lorikeet
data=runs/quickstart-data
mkdir -p "$data"
if [ ! -e "$data/tokenizer.model" ]; then
  say "training a tokenizer"
  "$lorikeet" data tokenizer --input data/quickstart/*.jsonl.gz --vocab-size 4096 --output "$data/tokenizer.model"
fi
say "tokenising the corpus"
"$lorikeet" data tokenize --input data/quickstart/*.jsonl.gz --tokenizer "$data/tokenizer.model" --output "$data/shards"
say "training (configs/quickstart.yaml)"
"$lorikeet" pretrain configs/quickstart.yaml
say "a sample"
"$lorikeet" generate runs/quickstart/model --prompt "The function returns" --max-tokens 60 --temperature 0.8 --top-p 0.95 --seed 1
say "done: runs/quickstart holds the model, metrics.jsonl, tensorboard/ and the checkpoints"
