#!/bin/bash
# A run of ress as one Slurm job, which `ress submit --on slurm` submits: a coordinator beside this script on the job's first node, a worker a
# task. What dies is replaced or done without; what ends early is put back into the queue and goes on from its checkpoint.
#
# It gets from `ress submit`: RESS (the program), RESS_CONFIG (the run, every key spelled out), RESS_RUN (its folder), RESS_EXCHANGE (what carries
# data between workers), RESS_RESUME (what --resume said: empty, `newest` or a path), RESS_OTHER_DATA (not empty with --other-data). RESS_NETWORK=10.1.0.0/16, where it was set at the
# submission, is the network that messages travel over; without it, that of the first address of each node.
#
#SBATCH --requeue
#SBATCH --no-kill
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@180
set -uo pipefail

say() { printf '%s %s\n' "$(date -u +%FT%TZ)" "$*"; }

# Tasks of an array would be several jobs for one folder.
[ -z "${SLURM_ARRAY_JOB_ID:-}" ] || { say "a run is one job, and this is a task of an array of jobs: submit it without --array"; exit 2; }

# The address of this machine that others of the job reach it at: the first, or the first in RESS_NETWORK.
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
# Fencing: a task of an earlier attempt, or of a node that Slurm has given up, has another attempt's keys, and is let in nowhere.
private=$RESS_RUN/slurm-$SLURM_JOB_ID-$attempt
export RESS_KEYS=$private/keys
host=$(own_address) || exit 1
address=tcp://$host:$((20000 + (SLURM_JOB_ID * 7 + attempt) % 12000))

# Whatever job is at work in this folder keeps it. `ress submit` asks as well; this is for two that were submitted at once.
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

# Private keys end with the attempt, however it ends: also by scancel, which asks with SIGTERM before it kills.
trap 'rm -rf "$private"' EXIT
trap 'exit 143' TERM
trap 'exit 130' INT
mkdir -p "$private" || exit 1

# The newest attempt is the one that counts. Slurm may begin it while this one's node lives on, unheard: whoever finds another's number here ends.
mine=$SLURM_JOB_ID-$attempt
echo "$mine" >"$RESS_RUN/slurm-attempt.new" && mv "$RESS_RUN/slurm-attempt.new" "$RESS_RUN/slurm-attempt" || exit 1
is_newest() { [ "$(cat "$RESS_RUN/slurm-attempt" 2>/dev/null || echo "$mine")" = "$mine" ]; }
# An older one looks every two seconds.
[ "$attempt" -eq 0 ] || sleep 5
# What those that were killed could not take with them.
for old in "$RESS_RUN"/slurm-*-*/; do [ "$old" = "$private/" ] || rm -rf "$old"; done
"$RESS" keys new --force >/dev/null || exit 1
ask() { "$RESS" "$@" --coordinator "$address"; }

say "job $SLURM_JOB_ID, attempt $attempt, on $SLURM_JOB_NODELIST: $SLURM_NTASKS workers for run $name"
# Its memory is the folder of checkpoints, which an attempt on other nodes has too.
"$RESS" coordinator --listen "$address" --store :memory: &
coordinator=$!

# Told some time before the limit: save, and go on in another attempt.
again=0 watcher=
pause() {
  again=1
  say "the time is nearly over: saving step and state"
  ask pause "$name"
  while state=$(ask status "$name" --json); do
    case $state in
    *'"state": "paused"'*)
      # Whoever follows a run waits for it to go on.
      [ -z "$watcher" ] || kill "$watcher"
      break
      ;;
    *'"state": "finished"'* | *'"state": "failed"'* | *'"state": "cancelled"'*) break ;;
    esac
    sleep 0.2
  done
}
trap pause USR1

# Workers look for their coordinator for a minute (RESS_RETURN_WITHIN seconds), should its node be slow. When it is gone for good, so is this script: with --no-kill Slurm
# would keep the job on the other nodes, with nobody to run it, until its time is over. Then a worker puts it back into the queue.
step() {
  exec srun --wait=0 --unbuffered --label "$@" bash -c '
  # Whoever reads what is said here may be gone, too.
  trap "" PIPE
  address=$(own_address) || exit 1
  "$RESS" worker --coordinator "$1" --listen "tcp://$address:*" --name "$SLURMD_NODENAME-$SLURM_PROCID" \
    --threads "${SLURM_CPUS_PER_TASK:-1}" --join-within 60 --return-within "${RESS_RETURN_WITHIN:-60}"
  code=$?
  if [ $code -ne 0 ] && ! "$RESS" runs --coordinator "$1" >/dev/null 2>&1 && [ "$(cat "$RESS_RUN/slurm-attempt")" = "$2" ]; then
    echo "$(date -u +%FT%TZ) the coordinator is gone, and its node with it: back into the queue" | tee -a "$RESS_RUN/slurm-$SLURM_JOB_ID.log"
    scontrol requeue "$SLURM_JOB_ID"
  fi
  exit $code
' worker "$address" "$mine"
}

# Over MPI all tasks end with one, and are started again together. What keeps ending at once has a reason that starting again does not cure; a
# node that is gone is one, and another attempt has other nodes.
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
  # One task's end is not the others', wherever a cluster makes ranks of all tasks.
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
# An attempt before this one that has begun the run is gone on from; else the run begins as `ress submit` was told.
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
ask submit "$RESS_CONFIG" ${resume[@]+"${resume[@]}"} --key "slurm-$SLURM_JOB_ID-$attempt" || again=-1
# Once its folder was looked at: checkpoints that it does not go on from are out of the way then.
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
  # A signal interrupts `wait`, not the command.
  while kill -0 $watcher 2>/dev/null; do wait $watcher; done
  wait $watcher
  code=$?
fi

kill $workers 2>/dev/null
kill $coordinator 2>/dev/null
wait
rm -rf "$private"
if [ $again -eq 1 ] && [ $code -ne 0 ]; then
  say "back into the queue, to go on from the checkpoint"
  exec scontrol requeue "$SLURM_JOB_ID"
fi
say "ends with $code"
exit $code
