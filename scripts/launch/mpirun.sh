#!/usr/bin/env bash
# A run by Open MPI's mpirun, which needs ssh between the nodes and nothing else.
#
#   mpirun.sh [MPIRUN OPTION... --] CONFIG [PRETRAIN OPTION...]
#
#   mpirun.sh -np 8 -- CONFIG                                              8 processes on this node
#   MASTER_ADDR=node1 mpirun.sh --host node1:8,node2:8 -- CONFIG           rank 0 is on the first host: name that one
source "$(dirname "${BASH_SOURCE[0]}")/supervise.sh"
split_arguments "$@"
command -v mpirun >/dev/null || fail "mpirun was not found" "install Open MPI, or use torchrun.sh or srun.sh"

export MASTER_PORT=${MASTER_PORT:-$((20000 + RANDOM % 10000))}  # so that two runs on a node don't meet
exported=(-x MASTER_PORT)
[ -z "${MASTER_ADDR-}" ] || exported+=(-x MASTER_ADDR)
# mpirun gives each rank a second after SIGTERM, then kills it. So a rank on this node is asked, which tells the others.
# Where there is none, mpirun can only ask all for a checkpoint (it hands SIGUSR1 on) and end them when that is written.
ask_run_to_stop() {
  pkill -TERM --parent "$launcher" --exact "$(basename "$lorikeet")" && return
  kill -USR1 "$launcher"
  sleep "${CHECKPOINT_SECONDS:-30}"
  kill -TERM "$launcher"
}

find_run
# Unbound: by default every rank would have one core for all of its threads.
supervise relaunch mpirun --bind-to none "${exported[@]}" "${launcher_options[@]}"
