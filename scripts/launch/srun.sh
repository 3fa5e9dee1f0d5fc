#!/usr/bin/env bash
# A run by srun, inside an allocation that is there already (salloc); slurm.sbatch is for jobs that wait in the queue.
#
#   srun.sh [SRUN OPTION... --] CONFIG [PRETRAIN OPTION...]
#
#   salloc --nodes=2 --ntasks-per-node=8 --gpus-per-node=8 scripts/launch/srun.sh CONFIG
source "$(dirname "${BASH_SOURCE[0]}")/supervise.sh"
split_arguments "$@"
[ -n "${SLURM_JOB_ID-}" ] ||
  fail "no Slurm allocation: SLURM_JOB_ID is not set" "salloc --nodes=N --ntasks-per-node=GPUS $0 CONFIG"

# srun answers SIGTERM by ending its tasks; this reaches them instead, all steps of the job.
ask_run_to_stop() { scancel --signal=TERM "$SLURM_JOB_ID"; }

find_run
# Neighbouring ranks on one node: they hold shards of the same parameters.
supervise relaunch srun --kill-on-bad-exit=1 --distribution=block "${launcher_options[@]}"
