"""Programs that pretend to be lorikeet, torchrun, mpirun, srun, scancel and scontrol, for the launch scripts.

Each start of the false lorikeet takes the next line of a scenario: STATE CODE [CHECKPOINT]. STATE goes to status.json
("-" leaves that alone; "waits" waits for SIGTERM and is preempted by it), CHECKPOINT names one that is made.
"""

PROGRAM = r"""#!/bin/bash
run=$FAKE/runs/r
for argument; do
  if [ "$argument" = --print-config ]; then
    [ "$2" != broken.yaml ] || { echo "error: broken.yaml: no" >&2; exit 2; }
    printf 'name: r\noutput: %s/runs\nseed: 1\nmodel:\n  name: another\n' "$FAKE"
    exit
  fi
done
status() {
  printf '{\n "message": "",\n "state": "%s",\n "step": 1\n}\n' "$1" >"$run/status.new"
  mv "$run/status.new" "$run/status.json"
}
mkdir -p "$run/checkpoints"
echo "$*" >>"$FAKE/starts"
read -r state code checkpoint < <(sed -n "$(wc -l <"$FAKE/starts")p" "$FAKE/scenario")
[ -z "$checkpoint" ] || mkdir "$run/checkpoints/$checkpoint"
if [ "$state" = waits ]; then
  trap 'status preempted; exit 75' TERM
  trap 'echo INT >>"$FAKE/signals"' INT
  echo $$ >"$FAKE/pid"
  status running
  touch "$FAKE/waiting"
  while true; do sleep 0.05; done
fi
[ "$state" = - ] || status "$state"
exit "$code"
"""

# Runs what stands from the program's name on. torchrun hides the code and hands signals on; srun keeps the code and
# ends its tasks without mercy when it gets SIGTERM itself.
LAUNCHER = r"""#!/bin/bash
name=$(basename "$0")
echo "$name $*" >>"$FAKE/launchers"
env | grep -E '^MASTER_' >>"$FAKE/launcher_environment"
while [ "$1" != "$LORIKEET" ]; do shift; done
if [ -n "${RANKS_ELSEWHERE-}" ]; then  # the rank is not the launcher's own child
  (trap 'kill -TERM $child' TERM; "$@" & child=$!; while kill -0 $child 2>/dev/null; do wait $child; done; wait $child) &
else
  "$@" &
fi
child=$!
if [ "$name" = srun ]; then
  trap 'kill -KILL $child; exit 143' TERM
else
  trap 'echo "$name: TERM" >>"$FAKE/launcher_signals"; kill -TERM $child' TERM
  trap 'echo "$name: USR1" >>"$FAKE/launcher_signals"' USR1
fi
while kill -0 $child 2>/dev/null; do wait $child; done
wait $child
code=$?
[ "$name" != torchrun ] || [ $code = 0 ] || code=1
exit $code
"""

SCANCEL = r"""#!/bin/bash
echo "scancel $*" >>"$FAKE/slurm"
kill -TERM "$(cat "$FAKE/pid")"
"""

SCONTROL = r"""#!/bin/bash
echo "scontrol $*" >>"$FAKE/slurm"
exit "${SCONTROL_CODE:-0}"
"""

NVIDIA_SMI = r"""#!/bin/bash
printf 'GPU 0: a\nGPU 1: b\nGPU 2: c\n'
"""

ALL = {"lorikeet": PROGRAM, "torchrun": LAUNCHER, "mpirun": LAUNCHER, "srun": LAUNCHER, "scancel": SCANCEL,
       "scontrol": SCONTROL, "nvidia-smi": NVIDIA_SMI}
