#!/usr/bin/env bash
# What a user's mistakes end with: the exit code, `error:` lines, a `hint:` line where there is one to give, and
# no word about internal errors. usage: exit_codes_test.sh BUILD PYTHON SCRATCH
set -euo pipefail
program=$1/lorikeet python=$2 scratch=$3
rm -rf "$scratch"
mkdir -p "$scratch"
cd "$scratch"

# expect CODE PATTERN ARGUMENT...: the exit code, and an `error:` line that matches.
expect() {
  local code=$1 pattern=$2 output status=0
  shift 2
  output=$("$program" "$@" 2>&1 >/dev/null) || status=$?
  if [ "$status" != "$code" ] || ! grep -Eq -- "^error: .*$pattern" <<<"$output" ||
    grep -Evq '^(error|hint): ' <<<"$output" || grep -q internal <<<"$output"; then
    printf 'lorikeet %s\n  exit code %s, expected %s\n  expected an error: line with %s, and nothing else than error: and hint: in:\n%s\n' \
      "$*" "$status" "$code" "$pattern" "$output"
    exit 1
  fi
}

# --- 2: configurations
cat >run.yaml <<'YAML'
model: {hidden_size: 8, num_layers: 1, num_heads: 2, ffn_size: 16, vocab_size: 32, context_length: 16,
  feed_forward: {kind: merged, num_experts: 2, segment_length: 4}}
data: {shards: shards}
train: {steps: 1}
YAML
"$program" pretrain --dry-run run.yaml >/dev/null  # what is refused below is refused for its own reason
echo 'model: {hidden_size: 8' >broken.yaml
printf 'modle: {}\ntrain: {stepz: 3}\n' >unknown.yaml
LORIKEET_CPU=avx1024 expect 2 "LORIKEET_CPU is 'avx1024': it may be avx512bf16" pretrain run.yaml
expect 2 'broken.yaml:[0-9]+:[0-9]+: broken YAML' pretrain broken.yaml
expect 2 'unknown.yaml:1: modle: unknown key; did you mean model' pretrain unknown.yaml
expect 2 'unknown.yaml:2: train.stepz: unknown key; did you mean train.steps' pretrain unknown.yaml
expect 2 'missing.yaml: no such' pretrain missing.yaml
[ -e /dev/nvidia0 ] || expect 2 'device cuda is not available here: ' bench merged-ffn --device cuda
expect 2 'segment_length: 32 is more than model.context_length 16' \
  pretrain run.yaml --set model.feed_forward.segment_length=32
expect 2 'model.hidden_size: 8 is not a multiple of model.num_heads 3' pretrain run.yaml --set model.num_heads=3
expect 2 'model.num_layers: 0' pretrain run.yaml --set model.num_layers=0
expect 2 'model.hidden_size: -8' pretrain run.yaml --set model.hidden_size=-8
expect 2 'model.hidden_size: 1e30' pretrain run.yaml --set model.hidden_size=1e30
expect 2 'train.steps: 9{30} is too large' pretrain run.yaml --set "train.steps=$(printf '9%.0s' {1..30})"

# --- 2: numbers and names of options, before any file is read
options() {
  local pattern=$1
  shift
  expect 2 "$pattern" "$@"
  [ "$("$program" "$@" 2>&1 | grep -c '^hint: ')" = 1 ] || { echo "no hint: lorikeet $*"; exit 1; }
}
tokenize=(data tokenize --input none.jsonl --tokenizer none.model --output none)
options "data tokenize: --threads: '-3' is not a whole number from 0 to 4096" "${tokenize[@]}" --threads -3
options "data batch: --threads: '-1' is not a whole number" data batch none --threads -1
options "data batch: --seed: '-1' is not a whole number" data batch none --seed -1
options "data batch: --duplicate-cosine: 'nan' is not a number from 0 to 2" data batch none --duplicate-cosine nan
options "data batch: --chunks: '-1' is not a whole number from 0 to 1000000000000" data batch none --chunks -1
options 'data batch: --precision: 1 not in .bf16,fp32' data batch none --precision 1
options "data inspect: --document: '-1' is not a whole number" data inspect none --document -1
options "generate: --seed: '-1' is not a whole number" generate none --prompt x --seed -1
options "generate: --max-tokens: '0' is not a whole number from 1" generate none --prompt x --max-tokens 0
options "generate: --top-k: '1.5' is not a whole number" generate none --prompt x --top-k 1.5
options "generate: --top-p: 'nan' is not a number from 0 to 1" generate none --prompt x --top-p nan
options "generate: --temperature: '-1' is not a number" generate none --prompt x --temperature -1
options "compare: --seeds: '-1' is not a whole number" compare none.yaml --seeds 1,-1
options "preflight: --memory-slack: 'nan' is not a number" preflight none.yaml --memory-slack nan
options "bench merged-ffn: --tokens: '1e3' is not a whole number" bench merged-ffn --tokens 1e3
help=$("$program" data batch --help)
! grep -E 'BOOLEAN|ENUM|->' <<<"$help" || { echo "data batch --help shows numbers for names"; exit 1; }

# --- 7: a machine that is not fit for the run
expect 7 'preflight: no-go' preflight run.yaml --set parallel.shard=2 --set output=runs
grep -q '"verdict": "no-go"' runs/run/preflight.json

# --- 4: model directories. One that is whole, then copies of it with one thing wrong.
"$python" - <<'PYTHON'
import json, os, struct

D, H, F, E, V = 8, 2, 16, 2, 32
layer = "model.layers.0."
shapes = {"lm_head.weight": [V, D], "model.embed_tokens.weight": [V, D], "model.norm.weight": [D],
          layer + "input_layernorm.weight": [D], layer + "post_attention_layernorm.weight": [D],
          layer + "mlp.experts.gate_proj.weight": [E, F, D], layer + "mlp.experts.up_proj.weight": [E, F, D],
          layer + "mlp.experts.down_proj.weight": [E, D, F], layer + "mlp.router.weight": [E, D]}
shapes.update({f"{layer}self_attn.{name}_proj.weight": [D, D] for name in "qkvo"})
config = {"model_type": "lorikeet", "hidden_size": D, "num_hidden_layers": 1, "num_attention_heads": H,
          "num_key_value_heads": H, "head_dim": D // H, "intermediate_size": F, "vocab_size": V,
          "max_position_embeddings": 16, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
          "tie_word_embeddings": False, "feed_forward": "merged", "num_experts": E, "segment_length": 4,
          "routing": "causal_segment", "first_segment": "self_stop_gradient", "segment_scope": "context",
          "attention_scope": "context", "qk_norm": "none"}


def write(folder, shapes, keep=None):
    """A model directory whose weights are all zero; of the weight file only the first `keep` bytes."""
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 4
        for length in shape:
            size *= length
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    os.mkdir(folder)
    with open(f"{folder}/config.json", "w") as file:
        json.dump(config, file)
    with open(f"{folder}/model.safetensors", "wb") as file:
        file.write((struct.pack("<Q", len(text)) + text + bytes(end))[:keep])


write("whole", shapes)
write("truncated", shapes, keep=2000)
write("cut_in_the_header", shapes, keep=100)
write("another_shape", {**shapes, "model.norm.weight": [D + 1]})
write("one_missing", {name: shapes[name] for name in shapes if name != "model.norm.weight"})
PYTHON
mkdir pickled
cp whole/config.json pickled
echo pickle >pickled/pytorch_model.bin
echo '{"ids": [1, 2, 3]}' >good.jsonl
"$program" score whole --input good.jsonl --output out.jsonl 2>/dev/null
[ "$(wc -l <out.jsonl)" = 1 ]
# Standard streams: nothing but answers on standard output, and the bytes that a file gets.
printf '\n{"ids": [1, 2, 3]}\n' | "$program" score whole --input - --output - 2>/dev/null | cmp - out.jsonl
score() { expect "$1" "$2" score "$3" --input "$4" --output refused.jsonl; }
score 4 'no_such_folder' no_such_folder good.jsonl
score 4 'truncated/model.safetensors: ' truncated good.jsonl
score 4 'cut_in_the_header/model.safetensors: ' cut_in_the_header good.jsonl
score 4 'pickled: has only pickled weights' pickled good.jsonl
score 4 'model.norm.weight: \[9\] in the file, \[8\] in the model' another_shape good.jsonl
score 4 'model.norm.weight' one_missing good.jsonl

# --- 3: data
printf '{"ids": [1, 2]}\n{"ids": [1, 32]}\n' >outside.jsonl
echo '{"ids": [1, 2' >broken.jsonl
score 3 'outside.jsonl:2: token id 32 at position 1 is out of range' whole outside.jsonl
score 3 'broken.jsonl:1: ' whole broken.jsonl
score 3 'no_such_file.jsonl: ' whole no_such_file.jsonl
# Paths are tried before the model is read: they show although there is no model.
score 3 'no_such_file.jsonl: ' no_such_folder no_such_file.jsonl
expect 3 'no_such_folder/out.jsonl: cannot write' score no_such_folder --input good.jsonl --output no_such_folder/out.jsonl
expect 3 '<stdin>:2: token id 32' score whole --input - --output - <outside.jsonl
expect 3 'no_such_shards: ' pretrain run.yaml --set data.shards=no_such_shards
: >empty.jsonl
expect 3 'no_such.jsonl: ' data tokenizer --input no_such.jsonl --output refused.model
expect 3 'the input holds no documents' data tokenizer --input empty.jsonl --output refused.model
expect 3 'no_such_shards: ' data inspect no_such_shards
printf '{"text": "one two three"}\n{"text": "two three four"}\n' >two.jsonl
"$program" data tokenizer --input two.jsonl --vocab-size 275 --output small.model >/dev/null 2>&1
"$program" data tokenize --input two.jsonl --tokenizer small.model --output shards --held-out 0 >/dev/null 2>&1
expect 2 '--vocab-size: 262 is less than 2[0-9]+, the text.s characters' \
  data tokenizer --input two.jsonl --vocab-size 262 --output refused.model
expect 2 "--shard-tokens: '0': is less than 1" \
  data tokenize --input two.jsonl --tokenizer small.model --output refused --shard-tokens 0
expect 2 '--document: 99999 is not in 0 .. 1' data inspect shards --document 99999
expect 2 "--memory: '0': is less than 1" data batch shards --memory 0
head -c 200 shards/manifest.json >cut.json && cp cut.json shards/manifest.json
expect 3 'shards/manifest.json: is not JSON: broken at byte 20[0-9]' data inspect shards
head -c 300 small.model >cut.model
expect 3 'cut.model: is not a SentencePiece model: ' data tokenize --input two.jsonl --tokenizer cut.model --output refused
[ ! -e refused.model ] || { echo "a refused input left a tokenizer"; exit 1; }
[ ! -e refused.jsonl ] || { echo "a refused input left an output file"; exit 1; }
echo "mistakes end with their exit codes"
