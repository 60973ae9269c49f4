#!/bin/bash
# Trains a run on machines that ssh reaches, and ends everything that it started, however it ends.
#
#   cluster/ssh/train.sh HOSTS CONFIG [OPTIONS OF ress train]
#
# HOSTS is a file: a host a line, as ssh knows it, and behind it the number of its workers (1 if there is none). `ress` is on the PATH there (or RESS names
# it), and data and checkpoints are at the same places everywhere. The coordinator is here; ADDRESS is where the hosts reach this
# machine, if that is not the first of `hostname -I`.
set -euo pipefail

[ $# -ge 2 ] || { sed -n '2,9p' "$0"; exit 2; }
hosts=$1 config=$2
shift 2
[ -r "$hosts" ] || { echo "$hosts: no such file of hosts" >&2; exit 2; }
ress=${RESS:-ress}
command -v "$ress" >/dev/null || { echo "'$ress' is not on the PATH here; RESS=/path/to/ress names it" >&2; exit 2; }
ssh=(${SSH:-ssh} -o BatchMode=yes -o ServerAliveInterval=10 -o ServerAliveCountMax=3)

address=${ADDRESS:-$(hostname -I | cut -d' ' -f1)}
endpoint=tcp://$address:${PORT:-$((20000 + RANDOM % 10000))}
private=$(mktemp -d "${TMPDIR:-/tmp}/ress-ssh-XXXXXX")
export RESS_KEYS=$private/keys
pids=()
finish() {
  trap - EXIT INT TERM
  [ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
  wait
  rm -rf "$private"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# One key for all of them, which ends with this run. It travels through ssh's standard input, never through an argument.
"$ress" keys new >/dev/null
"$ress" coordinator --listen "$endpoint" --store "$private/runs.db" >"$private/coordinator.log" 2>&1 &
pids+=($!)

# On a host: the key into a folder of its own, then a worker that ends when ssh's line does.
remote='
  set -e
  umask 077
  export RESS_KEYS=$(mktemp -d)
  trap "rm -rf \"$RESS_KEYS\"" EXIT
  read -r key
  echo "$key" >"$RESS_KEYS/key"
  address=$(hostname -I | cut -d" " -f1)
  "$1" worker --coordinator "$2" --listen "tcp://${address:-127.0.0.1}:*" --name "$3" --join-within 60 --return-within 60 --end-with-input
'
count=0
while IFS= read -r entry <&3; do
  read -r host workers _ <<<"${entry%%#*}" || true
  [ -n "$host" ] || continue
  case ${workers:-1} in *[!0-9]*) echo "$hosts: '$workers' behind $host is no number of workers" >&2; exit 2 ;; esac
  for number in $(seq "${workers:-1}"); do
    # The line stays open as long as this script lives.
    mkfifo "$private/line-$count"
    "${ssh[@]}" "$host" bash -c "$(printf '%q' "$remote")" worker "$ress" "$endpoint" "$host-$number" \
      <"$private/line-$count" >"$private/$host-$number.log" 2>&1 &
    pids+=($!)
    exec {line}>"$private/line-$count"
    cat "$RESS_KEYS/key" >&"$line"
    count=$((count + 1))
  done
done 3<"$hosts"
[ "$count" -gt 0 ] || { echo "$hosts names no host" >&2; exit 2; }

echo "a coordinator at $endpoint and $count workers; their words are in $private until the end"
code=0
"$ress" train "$config" --coordinator "$endpoint" --workers "$count" "$@" || code=$?
if [ $code -ne 0 ]; then
  echo "the run ended with $code; the last words of each:" >&2
  for log in "$private"/*.log; do echo "-- ${log##*/}" >&2; tail -3 "$log" >&2; done
fi
exit $code
