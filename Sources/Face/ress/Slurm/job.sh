#!/bin/bash
# A run of ress as one Slurm job, submitted by `ress submit --on slurm`: a coordinator and this script on the job's first node, and one worker
# in each task. The run continues without tasks that die. A job that ends early is requeued and continues from its checkpoint.
#
# `ress submit` sets RESS (the program), RESS_CONFIG (the run, every key spelled out), RESS_RUN (its folder), RESS_EXCHANGE (zeromq or mpi),
# RESS_RESUME (the value of --resume: empty, `newest` or a path), RESS_OTHER_DATA (not empty with --other-data) and RESS_ACCEPT_NUMERICS
# (not empty with --accept-numerics). RESS_NETWORK=10.1.0.0/16, if set at the submission, is the network for messages; without it, each
# node uses its first address.
#
#SBATCH --requeue
#SBATCH --no-kill
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@180
set -uo pipefail

say() { printf '%s %s\n' "$(date -u +%FT%TZ)" "$*"; }

# The tasks of an array would all write into one folder.
[ -z "${SLURM_ARRAY_JOB_ID:-}" ] || { say "a run is one job, and this is a task of a job array: submit it without --array"; exit 2; }

# The address at which other nodes reach this machine: its first address, or the first in RESS_NETWORK.
own_address() {
  local all each network=${RESS_NETWORK:-}
  all=$(hostname -I 2>/dev/null)
  [ -n "$network" ] || { set -- $all; echo "${1:-127.0.0.1}"; return; }
  number() { local IFS=.; set -- $1; echo $((($1 << 24) + ($2 << 16) + ($3 << 8) + $4)); }
  local bits=${network#*/}
  [[ $network =~ ^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+/[0-9]+$ ]] && [ "$bits" -le 32 ] ||
    { echo "RESS_NETWORK=$network is not a network such as 10.1.0.0/16" >&2; return 1; }
  local mask=$((bits == 0 ? 0 : (0xffffffff << (32 - bits)) & 0xffffffff))
  local wanted=$(($(number "${network%/*}") & mask))
  for each in $all 127.0.0.1; do
    [[ $each =~ ^[0-9.]+$ ]] && [ $(($(number "$each") & mask)) -eq $wanted ] && { echo "$each"; return; }
  done
  echo "$(hostname) has no address in RESS_NETWORK=$network; it has $all" >&2
  return 1
}
export -f own_address

attempt=${SLURM_RESTART_COUNT:-0}
name=${RESS_RUN##*/}
# Fencing: a task of an earlier attempt, or of a node that Slurm has given up, has the keys of another attempt and cannot connect.
private=$RESS_RUN/slurm-$SLURM_JOB_ID-$attempt
export RESS_KEYS=$private/keys
host=$(own_address) || exit 1

# A job that is running in this folder keeps it. `ress submit` checks this too; the check here is for two jobs that were submitted at once.
before=$(cat "$RESS_RUN/slurm-attempt" 2>/dev/null)
before=${before%-*}
if [ -n "$before" ] && [ "$before" != "$SLURM_JOB_ID" ]; then
  # A job that was just cancelled may take half a minute to end.
  for _ in $(seq 60); do
    state=$(squeue --noheader --jobs="$before" --format=%T 2>/dev/null)
    [ "${state%%[!A-Z]*}" = COMPLETING ] || break
    sleep 1
  done
  case $state in
  RUNNING* | COMPLETING* | SUSPENDED* | STOPPED* | CONFIGURING* | REQUEUE*)
    say "run $name is Slurm job $before already, which is $state: this job ends"
    exit 1
    ;;
  esac
fi

# The private keys are removed when the attempt ends, also by scancel, which sends SIGTERM before it kills.
trap 'rm -rf "$private"' EXIT
trap 'exit 143' TERM
trap 'exit 130' INT
mkdir -p "$private" || exit 1

# Only the newest attempt counts. Slurm may start it while the node of this one is still running but unreachable: an attempt that finds another
# number in this file ends.
mine=$SLURM_JOB_ID-$attempt
echo "$mine" >"$RESS_RUN/slurm-attempt.new" && mv "$RESS_RUN/slurm-attempt.new" "$RESS_RUN/slurm-attempt" || exit 1
is_newest() { [ "$(cat "$RESS_RUN/slurm-attempt" 2>/dev/null || echo "$mine")" = "$mine" ]; }
# An older attempt checks every two seconds.
[ "$attempt" -eq 0 ] || sleep 5
# Remove the keys of attempts that were killed.
for old in "$RESS_RUN"/slurm-*-*/; do [ "$old" = "$private/" ] || rm -rf "$old"; done
"$RESS" keys new --force >/dev/null || exit 1
ask() { "$RESS" "$@" --coordinator "$address"; }

say "job $SLURM_JOB_ID, attempt $attempt, on $SLURM_JOB_NODELIST: $SLURM_NTASKS workers for run $name"
# The store is in memory: an attempt on other nodes continues from the folder of checkpoints.
# The job is the user's own, and so is the command of cluster.on_end.
# The system chooses the port: any fixed one may be taken by another job on this node.
"$RESS" coordinator --listen "tcp://$host:*" --address-file "$private/address" --store :memory: --allow-commands &
coordinator=$!
until [ -e "$private/address" ]; do
  kill -0 $coordinator 2>/dev/null || { say "the coordinator has ended"; exit 1; }
  sleep 0.1
done
address=$(cat "$private/address")

# On the signal before the time limit: save, and continue in another attempt.
again=0 watcher=
pause() {
  again=1
  say "the time limit is near: saving the run"
  ask pause "$name"
  while state=$(ask status "$name" --json); do
    case $state in
    *'"state": "paused"'*)
      # `ress logs --follow` would wait for the run to continue.
      [ -z "$watcher" ] || kill "$watcher"
      break
      ;;
    *'"state": "finished"'* | *'"state": "failed"'* | *'"state": "cancelled"'*) break ;;
    esac
    sleep 0.2
  done
}
trap pause USR1

# Workers look for their coordinator for a minute (RESS_RETURN_WITHIN seconds), in case its node is slow. If its node died, this script died too, and
# because of --no-kill Slurm would keep the job on the other nodes until its time limit, doing nothing. Then a worker requeues the job.
step() {
  exec srun --wait=0 --unbuffered --label "$@" bash -c '
  # The reader of this output may have died too.
  trap "" PIPE
  address=$(own_address) || exit 1
  "$RESS" worker --coordinator "$1" --listen "tcp://$address:*" --name "$SLURMD_NODENAME-$SLURM_PROCID" \
    --threads "${SLURM_CPUS_PER_TASK:-1}" --join-within 60 --return-within "${RESS_RETURN_WITHIN:-60}"
  code=$?
  if [ $code -ne 0 ] && ! "$RESS" runs --coordinator "$1" >/dev/null 2>&1 && [ "$(cat "$RESS_RUN/slurm-attempt")" = "$2" ]; then
    echo "$(date -u +%FT%TZ) the coordinator is gone with its node: requeueing the job" | tee -a "$RESS_RUN/slurm-$SLURM_JOB_ID.log"
    scontrol requeue "$SLURM_JOB_ID"
  fi
  exit $code
' worker "$address" "$mine"
}

# Over MPI all tasks end when one ends, and are started again together. If they keep ending quickly, a restart does not help; a dead node is one
# possible reason, and another attempt gets other nodes.
worlds() {
  local over=0 task= quick=0 begun
  trap 'over=1; kill $task 2>/dev/null' TERM
  while [ $over -eq 0 ]; do
    begun=$SECONDS
    step --mpi=pmix --no-kill=off --kill-on-bad-exit=1 &
    task=$!
    while kill -0 $task 2>/dev/null; do wait $task; done
    [ $over -eq 0 ] || return
    if [ $((SECONDS - begun)) -ge 60 ]; then quick=0; else quick=$((quick + 1)); fi
    if [ $quick -ge 3 ]; then
      say "the ranks have ended $quick times in a row within a minute"
      if [ "$attempt" -lt 3 ]; then kill -USR1 $$; else ask cancel "$name"; fi
      return
    fi
    say "the ranks have ended, and are started again"
    sleep 1
  done
}

if [ "${RESS_EXCHANGE:-zeromq}" = mpi ]; then
  worlds &
else
  # The end of one task must not end the others, even on clusters that make all tasks ranks.
  step --mpi=none --no-kill --kill-on-bad-exit=0 &
fi
workers=$!

(
  while kill -0 $coordinator 2>/dev/null; do
    sleep 2
    is_newest && continue
    say "attempt $(cat "$RESS_RUN/slurm-attempt") has begun, so this one ends"
    kill -KILL $coordinator
    rm -rf "$private"
    kill $workers $$
  done
) &

for _ in $(seq 100); do
  ask runs >/dev/null 2>&1 && break
  kill -0 $coordinator 2>/dev/null || exit 1
  sleep 0.2
done
# If an earlier attempt of this job has started the run, continue it; otherwise start it as `ress submit` was told.
resume=()
if [ "$(cat "$RESS_RUN/slurm-begun" 2>/dev/null)" = "$SLURM_JOB_ID" ]; then
  for manifest in "$RESS_RUN"/step-*/manifest.json; do [ -e "$manifest" ] && resume=(--resume); done
else
  case ${RESS_RESUME:-} in
  '') ;;
  newest) resume=(--resume) ;;
  *) resume=("--resume=$RESS_RESUME") ;;
  esac
fi
[ -z "${RESS_OTHER_DATA:-}" ] || resume+=(--other-data)
[ -z "${RESS_ACCEPT_NUMERICS:-}" ] || resume+=(--accept-numerics)
ask submit "$RESS_CONFIG" ${resume[@]+"${resume[@]}"} --key "slurm-$SLURM_JOB_ID-$attempt" || again=-1
# The run has started when its folder was checked: checkpoints that it does not continue from were moved aside by then.
(
  until ask logs "$name" --json 2>/dev/null | grep '"event": "began"' >/dev/null; do
    kill -0 $coordinator 2>/dev/null || exit
    sleep 0.2
  done
  echo "$SLURM_JOB_ID" >"$RESS_RUN/slurm-begun.new" && mv "$RESS_RUN/slurm-begun.new" "$RESS_RUN/slurm-begun"
) &

code=1
if [ $again -ge 0 ]; then
  ask logs "$name" --follow &
  watcher=$!
  # A signal interrupts `wait`, but not the command.
  while kill -0 $watcher 2>/dev/null; do wait $watcher; done
  wait $watcher
  code=$?
fi

kill $workers 2>/dev/null
kill $coordinator 2>/dev/null
wait
rm -rf "$private"
if [ $again -eq 1 ] && [ $code -ne 0 ]; then
  say "requeueing the job, which will continue from the checkpoint"
  exec scontrol requeue "$SLURM_JOB_ID"
fi
say "ends with $code"
exit $code
