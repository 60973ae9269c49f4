#!/bin/bash
# Trains a run on machines over ssh. When this script ends, for whatever reason, it ends all processes that it started.
#
#   cluster/ssh/train.sh HOSTS CONFIG [OPTIONS OF ress train]
#
# HOSTS is a file with one host a line, by its ssh name, optionally followed by the number of its workers (default 1). `ress` must be on
# the PATH there (or RESS names it), and data and checkpoints must have the same paths everywhere. The coordinator runs here; ADDRESS is
# the address at which the hosts reach this machine, if it is not the first of `hostname -I`; RESS_NETWORK=10.1.0.0/16 chooses each
# machine's address in that network. The system chooses a free port, unless PORT names one.
set -euo pipefail

[ $# -ge 2 ] || { sed -n '2,9p' "$0"; exit 2; }
hosts=$1 config=$2
shift 2
[ -r "$hosts" ] || { echo "$hosts: there is no such file" >&2; exit 2; }
ress=${RESS:-ress}
command -v "$ress" >/dev/null || { echo "'$ress' is not on the PATH here; RESS=/path/to/ress names it" >&2; exit 2; }
ssh=(${SSH:-ssh} -o BatchMode=yes -o ServerAliveInterval=10 -o ServerAliveCountMax=3)

# The address at which the others reach a machine: its first address, or the first in a network such as 10.1.0.0/16.
own_address() {
  local all each network=$1
  all=$(hostname -I 2>/dev/null)
  [ -n "$network" ] || { set -- $all; echo "${1:-127.0.0.1}"; return; }
  number() { local IFS=.; set -- $1; echo $((($1 << 24) + ($2 << 16) + ($3 << 8) + $4)); }
  local bits=${network#*/}
  [[ $network =~ ^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+/[0-9]+$ ]] && [ "$bits" -le 32 ] ||
    { echo "RESS_NETWORK=$network is not a network such as 10.1.0.0/16" >&2; return 1; }
  local mask=$((bits == 0 ? 0 : (0xffffffff << (32 - bits)) & 0xffffffff))
  local wanted=$(($(number "${network%/*}") & mask))
  for each in $all 127.0.0.1; do
    if [[ $each =~ ^[0-9.]+$ ]] && [ $(($(number "$each") & mask)) -eq $wanted ]; then echo "$each"; return; fi
  done
  echo "$(hostname) has no address in RESS_NETWORK=$network; it has $all" >&2
  return 1
}

address=${ADDRESS:-$(own_address "${RESS_NETWORK:-}")}
private=$(mktemp -d "${TMPDIR:-/tmp}/ress-ssh-XXXXXX")
export RESS_KEYS=$private/keys
pids=()
finish() {
  trap - EXIT INT TERM HUP
  [ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
  wait
  rm -rf "$private"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# One key for all processes of this run. It is sent through ssh's standard input, never in an argument.
"$ress" keys new >/dev/null
"$ress" coordinator --listen "tcp://$address:${PORT:-*}" --address-file "$private/address" --store "$private/runs.db" \
  >"$private/coordinator.log" 2>&1 &
coordinator=$!
pids+=($coordinator)
# Without PORT the system chooses a free port.
until [ -e "$private/address" ]; do
  kill -0 $coordinator 2>/dev/null || { cat "$private/coordinator.log" >&2; exit 1; }
  sleep 0.1
done
endpoint=$(cat "$private/address")

# On each host: store the key in a folder of its own, then start a worker that ends when the ssh connection is closed.
remote="$(declare -f own_address)"'
  set -e
  umask 077
  export RESS_KEYS=$(mktemp -d)
  trap "rm -rf \"$RESS_KEYS\"" EXIT
  read -r key
  echo "$key" >"$RESS_KEYS/key"
  address=$(own_address "$4")
  "$1" worker --coordinator "$2" --listen "tcp://$address:*" --name "$3" --join-within 60 --return-within 60 --end-with-input
'
count=0
while IFS= read -r entry <&3; do
  read -r host workers _ <<<"${entry%%#*}" || true
  [ -n "$host" ] || continue
  case ${workers:-1} in *[!0-9]*) echo "$hosts: '$workers' after $host is not a number of workers" >&2; exit 2 ;; esac
  for number in $(seq "${workers:-1}"); do
    # The pipe stays open as long as this script runs.
    mkfifo "$private/line-$count"
    "${ssh[@]}" "$host" bash -c "$(printf '%q' "$remote")" worker "$ress" "$endpoint" "$host-$number" \
      "${RESS_NETWORK:-}" \
      <"$private/line-$count" >"$private/$host-$number.log" 2>&1 &
    pids+=($!)
    exec {line}>"$private/line-$count"
    cat "$RESS_KEYS/key" >&"$line"
    count=$((count + 1))
  done
done 3<"$hosts"
[ "$count" -gt 0 ] || { echo "$hosts names no host" >&2; exit 2; }

echo "a coordinator at $endpoint and $count workers; their logs are in $private until the run ends"
code=0
"$ress" train "$config" --coordinator "$endpoint" --workers "$count" "$@" &
train=$!
# `ress train` saves and ends on the first signal, and ends at once on the second. The terminal sends Ctrl-C to all processes of this script.
trap : INT
trap 'kill -TERM "$train" 2>/dev/null || true' TERM
trap 'kill -HUP "$train" 2>/dev/null || true' HUP
while kill -0 "$train" 2>/dev/null; do wait "$train" || true; done
wait "$train" || code=$?
if [ $code -ne 0 ]; then
  echo "the run ended with code $code; the last lines of each log:" >&2
  for log in "$private"/*.log; do echo "-- ${log##*/}" >&2; tail -3 "$log" >&2; done
fi
exit $code
