#!/bin/bash
# A task of a Slurm array that `ress sweep --on slurm` submits: one run of the sweep, on one node, with `ress train`. A task that ends early,
# because its node died or its time limit is near, is requeued and continues from its checkpoint.
#
# `ress sweep` sets RESS (the program), RESS_SWEEP (the sweep's folder) and RESS_THREADS (of each worker).
#
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
set -uo pipefail

say() { printf '%s %s\n' "$(date -u +%FT%TZ)" "$*"; }

name=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" "$RESS_SWEEP/slurm-runs")
[ -n "$name" ] || { say "$RESS_SWEEP/slurm-runs has no run for task $SLURM_ARRAY_TASK_ID"; exit 1; }
[ ! -e "$RESS_SWEEP/$name.finished" ] || { say "run $name is finished"; exit 0; }

resume=()
for there in "$RESS_SWEEP/$name/metrics.jsonl" "$RESS_SWEEP/$name"/step-*/manifest.json; do
  [ ! -e "$there" ] || resume=(--resume)
done
say "task $SLURM_ARRAY_TASK_ID of job $SLURM_ARRAY_JOB_ID, attempt ${SLURM_RESTART_COUNT:-0}, on $SLURM_JOB_NODELIST: run $name"
"$RESS" train "$RESS_SWEEP/$name.yaml" ${resume[@]+"${resume[@]}"} --threads "${RESS_THREADS:-1}" &
run=$!
again=0
# The first TERM saves the run and ends it.
trap 'again=1; say "the time limit is near: saving the run"; kill -TERM $run' USR1
trap 'kill -TERM $run' TERM
# A signal interrupts `wait`, but not the command.
while kill -0 $run 2>/dev/null; do wait $run; done
wait $run
code=$?

if [ $code -eq 0 ]; then
  : >"$RESS_SWEEP/$name.finished"
elif [ $again -eq 1 ]; then
  say "requeueing the task, which will continue from the checkpoint"
  exec scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
fi
say "ends with $code"
exit $code
