#!/usr/bin/env bash
# The program's frame: versions, exit codes, `error:` and `hint:`. usage: cli_test.sh BUILD
set -euo pipefail
program=$1/lorikeet
cd /  # works from any directory

# expect CODE PATTERN ARGUMENT...: the exit code, and a line that standard output or error must hold.
expect() {
  local code=$1 pattern=$2 output status=0
  shift 2
  output=$("$program" "$@" 2>&1) || status=$?
  if [ "$status" != "$code" ] || ! grep -Eq -- "$pattern" <<<"$output"; then
    printf 'lorikeet %s\n  exit code %s, expected %s\n  expected a line like: %s\n  got:\n%s\n' \
      "$*" "$status" "$code" "$pattern" "$output"
    exit 1
  fi
}

expect 0 '^lorikeet [0-9]+\.[0-9]+\.[0-9]+ \(commit ([0-9a-f]{12}(-dirty)?|unknown)\)$' --version
expect 0 '^LibTorch: +2\.[0-9]+\.[0-9]+$' --version
expect 0 '^CUDA: +(not built|[0-9.]+ \(sm_.*\))$' --version
expect 0 '^NCCL: +(not built|[0-9.]+)$' --version
expect 0 '^compiler: +GCC [0-9]+' --version
expect 0 '^processor: +[a-z]' --version
expect 0 'config-reference' --help
expect 2 "^error: lorikeet: unknown command 'config-refrence'$" config-refrence
expect 2 "^hint: did you mean 'config-reference'\?$" config-refrence
expect 2 "^error: lorikeet: unknown option '--verion'$" --verion
expect 2 "^hint: did you mean '--version'\?$" --verion
expect 2 '^hint: `lorikeet --help` lists what there is$' zzzzzz
expect 2 "^hint: did you mean '--verbose'\?$" config-reference --verbsoe
expect 2 "^error: lorikeet config-reference: unexpected argument 'x'$" config-reference x
expect 2 '^error: lorikeet: ' # no command at all
echo "the program's frame is as it should be"
