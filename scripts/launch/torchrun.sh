#!/usr/bin/env bash
# A run by torchrun, on one node or, called on each of them, on many.
#
#   torchrun.sh [TORCHRUN OPTION... --] CONFIG [PRETRAIN OPTION...]
#
#   torchrun.sh configs/paper/lory_0.3b_8e.yaml                            every GPU of this node
#   torchrun.sh --nnodes=8 --nproc-per-node=8 --rdzv-backend=c10d --rdzv-id=lory --rdzv-endpoint=HOST:29400 -- CONFIG
#                                                                          on each of 8 nodes, HOST one of them
#
# TORCHRUN names the program; it is PyTorch's and wants Python (scripts/bootstrap.sh installs both).
source "$(dirname "${BASH_SOURCE[0]}")/supervise.sh"
split_arguments "$@"

torchrun=${TORCHRUN:-$(command -v torchrun || echo "${LORIKEET_DEPS:-$HOME/.cache/lorikeet}/venv/bin/torchrun")}
command -v "$torchrun" >/dev/null ||
  fail "$torchrun: no such program" "set TORCHRUN to its path, or use srun.sh or mpirun.sh, which need no Python"
num_gpus=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU') || num_gpus=1
options=(--no-python --max-restarts=3 --nproc-per-node="$num_gpus")
case " ${launcher_options[*]}" in
  *" --nnodes"* | *" --rdzv"* | *" --master"* | *" --standalone"*) ;;
  *) options+=(--standalone) ;;
esac

find_run
supervise relaunch "$torchrun" "${options[@]}" "${launcher_options[@]}"
