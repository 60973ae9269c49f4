#!/bin/bash
# A real Slurm cluster of several nodes on this machine, for tests and experiments: slurmctld, munged and one slurmd for each node, as
# separate processes in a folder, without systemd, on the loopback interface. Needs root, slurm-wlm and munge.
#
#   scripts/slurm.sh up N           N nodes of 4 cores; prints the SLURM_CONF that sbatch and the other commands need
#   scripts/slurm.sh crash-node I   the host of node I dies: its slurmd and everything that runs on it
#   scripts/slurm.sh lose-node I    only the slurmd of node I dies: its tasks keep running, and Slurm considers them dead
#   scripts/slurm.sh freeze-node I  node I stops: it does not respond, and no connection is closed, as in a power failure
#   scripts/slurm.sh start-node I   node I starts again
#   scripts/slurm.sh down           ends everything
#
# SLURM_FOLDER: the folder of all files (default /tmp/ress-slurm). SLURM_PORT: its first port (default 16900).
set -euo pipefail

folder=${SLURM_FOLDER:-/tmp/ress-slurm}
port=${SLURM_PORT:-16900}
export SLURM_CONF=$folder/slurm.conf

configure() {
  local nodes=$1 host
  host=$(hostname -s)
  cat >"$SLURM_CONF" <<C
ClusterName=ress
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# A requeued job waits for the credential of the one before to expire.
AuthInfo=socket=$folder/munge.sock,cred_expire=5
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool-%n
# One for each node, because PMIx makes a folder for its ranks there.
TmpFS=$folder/tmp-%n
SlurmctldPidFile=$folder/slurmctld.self
SlurmdPidFile=$folder/%n.self
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
# Nodes have the number of cores given in this file, whatever the machine has.
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0
MpiDefault=none
ReturnToService=2
JobRequeue=1
SlurmdTimeout=10
SlurmctldTimeout=10
KillWait=5
NodeName=node[1-$nodes] NodeHostname=$host NodeAddr=127.0.1.[1-$nodes] Port=[$((port + 1))-$((port + nodes))] CPUs=4 RealMemory=2048
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
C
  echo "CgroupPlugin=cgroup/v1" >"$folder/cgroup.conf"
}

# start NAME COMMAND...: starts a daemon of this cluster. It closes all inherited descriptors, because the caller of this script may wait
# until they are closed.
start() {
  local name=$1 file
  shift
  (
    exec </dev/null >>"$folder/$name.out" 2>&1
    for file in /proc/self/fd/*; do
      file=${file##*/}
      [ "$file" -gt 2 ] && eval "exec $file>&-"
    done
    exec setsid "$@"
  ) &
  echo $! >"$folder/$name.pid"
}

start_node() {
  mkdir -p "$folder/spool-node$1" "$folder/tmp-node$1"
  start "node$1" slurmd -D -N "node$1" -f "$SLURM_CONF"
}

# Whether a process is of this cluster: the script and Slurm give it the cluster's configuration in its environment.
is_ours() { grep -qzxF "SLURM_CONF=$SLURM_CONF" "/proc/$1/environ" 2>/dev/null; }

stop() {
  local file=$folder/$1.pid process
  [ -e "$file" ] || return 0
  process=$(cat "$file")
  # If the daemon has ended by itself, another process may have its number.
  if is_ours "$process"; then kill "-${2:-TERM}" "$process" 2>/dev/null || true; fi
  rm -f "$file"
}

# Processes of this cluster's jobs, identified by a variable in their environment.
with() {
  local process
  for process in $(grep -lz "$1" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3); do
    is_ours "$process" && echo "$process"
  done
  true
}

wait_until_ready() {
  local nodes=$1
  for _ in $(seq 300); do
    [ "$(sinfo -h -N -t idle,mixed,alloc -o %N 2>/dev/null | wc -l)" = "$nodes" ] && return 0
    sleep 0.1
  done
  echo "Slurm was not ready within 30 s; $folder has its logs" >&2
  return 1
}

case ${1:-} in
up)
  mkdir -p "$folder/state"
  chmod 755 "$folder"
  configure "$2"
  (umask 077 && head -c 128 /dev/urandom >"$folder/munge.key")
  start munged munged --foreground --force --num-threads 2 --key-file "$folder/munge.key" --socket "$folder/munge.sock" \
    --pid-file "$folder/munged.self" --seed-file "$folder/munge.seed" --log-file "$folder/munged.log"
  for _ in $(seq 50); do
    munge -n -S "$folder/munge.sock" 2>/dev/null | unmunge -S "$folder/munge.sock" >/dev/null 2>&1 && break
    sleep 0.1
  done
  start slurmctld slurmctld -D -f "$SLURM_CONF"
  for node in $(seq "$2"); do start_node "$node"; done
  wait_until_ready "$2"
  echo "$SLURM_CONF"
  ;;
crash-node)
  stop "node$2" KILL
  for process in $(with "^SLURMD_NODENAME=node$2\$"); do
    # Also the slurmstepd of the step, whose environment lacks that variable.
    parent=$(awk '/^PPid/ {print $2}' "/proc/$process/status" 2>/dev/null || true)
    [ "$(cat "/proc/$parent/comm" 2>/dev/null)" = slurmstepd ] && kill -KILL "$parent" 2>/dev/null
    kill -KILL "$process" 2>/dev/null || true
  done
  ;;
lose-node) stop "node$2" KILL ;;
freeze-node)
  for process in "$(cat "$folder/node$2.pid")" $(with "^SLURMD_NODENAME=node$2\$"); do
    echo "$process"
    parent=$(awk '/^PPid/ {print $2}' "/proc/$process/status" 2>/dev/null || true)
    [ "$(cat "/proc/$parent/comm" 2>/dev/null)" != slurmstepd ] || echo "$parent"
  done | sort -nu | xargs kill -STOP 2>/dev/null || true
  ;;
start-node) start_node "$2" ;;
down)
  scancel --full --user="$(id -un)" 2>/dev/null || true
  for _ in $(seq 50); do
    [ -z "$(timeout 2 squeue -h 2>/dev/null)" ] && break
    sleep 0.1
  done
  for file in "$folder"/node*.pid; do
    [ -e "$file" ] && stop "$(basename "$file" .pid)" KILL
  done
  for process in $(with '^SLURM_JOB_ID='); do kill -KILL "$process" 2>/dev/null || true; done
  stop slurmctld KILL
  stop munged KILL
  rm -rf "$folder"
  ;;
*)
  sed -n '2,12p' "$0"
  exit 2
  ;;
esac
