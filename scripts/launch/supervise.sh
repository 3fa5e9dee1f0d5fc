# shellcheck shell=bash
# Sourced by the launch scripts: starts a run by a launcher, reads from RUN/status.json what became of it (launchers
# swallow exit codes), and starts it again where that helps. What the scripts end with is what the program would:
# 0 finished, 2, 3, 4 refused, 5 diverged, 75 asked to stop, anything else a crash that came back too often.
#
# LORIKEET       the program (default: bin/lorikeet of a package, build/lorikeet of a checkout)
# MAX_CRASHES    crashes in a row without a new checkpoint after which a run is given up (3)
# PAUSE_SECONDS  before it is started again (10): sockets close, shared folders show what was written
set -euo pipefail
launch_home=${launch_home:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}
: "${MAX_CRASHES:=3}" "${PAUSE_SECONDS:=10}"

say() { printf '== %(%F %T)T  %s\n' -1 "$*"; }

# fail ERROR HINT
fail() {
  printf 'error: %s\nhint: %s\n' "$1" "$2" >&2
  exit 2
}

# split_arguments [LAUNCHER OPTION... --] CONFIG [PRETRAIN OPTION...]: into launcher_options and pretrain_options.
split_arguments() {
  # shellcheck disable=SC2034  # the scripts use it
  launcher_options=() pretrain_options=("$@")
  local i
  for ((i = 1; i <= $#; i++)); do
    if [ "${!i}" = -- ]; then
      # shellcheck disable=SC2034
      launcher_options=("${@:1:i-1}") pretrain_options=("${@:i+1}")
      break
    fi
  done
  [ ${#pretrain_options[@]} -gt 0 ] ||
    fail "no configuration was given" "$(basename "$0") [LAUNCHER OPTION... --] CONFIG [PRETRAIN OPTION...]"
}

# Sets `lorikeet` and `run`, the run's folder, from pretrain_options.
find_run() {
  lorikeet=${LORIKEET:-$launch_home/bin/lorikeet}
  [ -n "${LORIKEET-}" ] || [ -x "$lorikeet" ] || lorikeet=$launch_home/build/lorikeet
  [ -x "$lorikeet" ] || fail "$lorikeet: no such program" "build it (scripts/build.sh), or set LORIKEET to its path"
  local config
  config=$("$lorikeet" pretrain "${pretrain_options[@]}" --print-config) || exit  # it said what is wrong
  run=$(top_level output "$config")/$(top_level name "$config")
}

# top_level KEY YAML: the value of a key at the margin, without quotes
top_level() { sed -n "s/^$1: *//p" <<<"$2" | sed "s/^\([\"']\)\(.*\)\1\$/\2/"; }

# After the first start a run goes on from where it is: --resume is dropped, so that it is auto.
drop_resume() {
  local kept=() i
  for ((i = 0; i < ${#pretrain_options[@]}; i++)); do
    case ${pretrain_options[i]} in
      --resume) i=$((i + 1)) ;;
      --resume=*) ;;
      *) kept+=("${pretrain_options[i]}") ;;
    esac
  done
  pretrain_options=("${kept[@]}")
}

state() { sed -n 's/^ *"state": *"\([a-z]*\)".*/\1/p' "$run/status.json" 2>/dev/null || true; }
# Changes whenever the status is written: a status from before this start explains nothing.
status_stamp() { stat -c '%i %y' "$run/status.json" 2>/dev/null || true; }
newest_checkpoint() { { find "$run/checkpoints" -maxdepth 1 -name 'step_*[0-9]' 2>/dev/null || true; } | sort | tail -n 1; }

# outcome CODE STATE IS_NEW: finished, preempted, diverged, refused or crashed. The launcher's code counts where it is
# one of the program's; of any other (torchrun ends with 1 whatever happened) the status says more. But "preempted"
# with another code is a rank's crash, unless we asked: launchers send SIGTERM to the ranks that are left.
outcome() {
  local code=$1 state=$2 is_new=$3
  case $code:$state:$is_new in
    0:preempted:yes | 75:*) echo preempted ;;
    0:*) echo finished ;;
    [234]:*) echo refused ;;
    5:* | *:diverged:*) echo diverged ;;
    *:finished:yes) echo finished ;;
    *:preempted:yes) [ -n "$asked" ] && echo preempted || echo crashed ;;
    *) echo crashed ;;
  esac
}

# How the run is asked to checkpoint and leave; scripts replace it where the launcher passes no signals on.
ask_run_to_stop() { kill -TERM "$launcher"; }

# on_signal NAME: asks once. `asked` is the signal's name from then on.
on_signal() {
  [ -z "$asked" ] || return 0
  asked=$1
  say "$1: asking the run to checkpoint and leave"
  [ -z "$launcher" ] || ask_run_to_stop || true
}
asked='' launcher=''

# run_launcher COMMAND...: returns its code. In a process group of its own, or control-C would reach the ranks beside
# our own request, and a second SIGINT ends them at once.
run_launcher() {
  set -m
  "$@" &
  launcher=$!
  set +m
  # A request that came before there was a launcher.
  [ -z "$asked" ] || ask_run_to_stop || true
  local code=0
  while kill -0 "$launcher" 2>/dev/null; do wait "$launcher" || true; done
  wait "$launcher" || code=$?
  launcher=''
  return $code
}

# supervise relaunch|leave COMMAND...: runs `COMMAND... lorikeet pretrain OPTIONS` until there is nothing more to do here,
# and returns the program's code. A preempted run is started again, or left to the caller; one that was asked to stop
# through this script is always left.
supervise() {
  local when_preempted=$1 crashes=0 code stamp is_new newest result
  shift
  trap 'on_signal TERM' TERM
  trap 'on_signal INT' INT
  trap 'on_signal USR1' USR1
  while [ -z "$asked" ]; do
    stamp=$(status_stamp) newest=$(newest_checkpoint) code=0 is_new=no
    run_launcher "$@" "$lorikeet" pretrain "${pretrain_options[@]}" || code=$?
    [ "$(status_stamp)" = "$stamp" ] || is_new=yes
    result=$(outcome "$code" "$(state)" "$is_new")
    say "$run: $result (the launcher's code is $code, the status '$(state)'$([ $is_new = yes ] || echo ' as before'))"
    case $result in
      finished) return 0 ;;
      refused) return "$code" ;;
      diverged) return 5 ;;
      preempted) [ "$when_preempted" = relaunch ] || return 75 ;;
      crashed)
        [ "$(newest_checkpoint)" = "$newest" ] || crashes=0
        crashes=$((crashes + 1))
        [ -z "$asked" ] && [ $crashes -lt "$MAX_CRASHES" ] || return "$code"
        ;;
    esac
    drop_resume
    [ -n "$asked" ] || say "starting it again in $PAUSE_SECONDS s"
    [ -n "$asked" ] || sleep "$PAUSE_SECONDS"
  done
  return 75
}
