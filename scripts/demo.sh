#!/bin/bash
# `make demo`: from a fresh machine to a trained model. Installs missing packages, builds, prepares text, starts a coordinator and
# two workers as separate processes, trains, and prints a sample of generated text. TEXT=folder uses your own text. It can be run
# again at any time: each run gets a new name, and earlier runs are kept.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n== %s\n' "$*"; }

text=${TEXT:-}
if [ -n "$text" ]; then
  [ -e "$text" ] || { echo "TEXT=$text: no such file or folder" >&2; exit 2; }
  scripts/install-packages.sh
else
  scripts/install-packages.sh --demo
fi

say "Building (some minutes the first time)"
scripts/moved.sh .build
swift build -c release --product ress
ress=.build/release/ress

say "Preparing text"
mkdir -p data checkpoints
if [ -z "$text" ]; then
  text=data/bible
  scripts/prepare-bible.sh "$text"
fi
"$ress" data prepare "$text" --out data/demo.h5 --force

run=demo number=1
while [ -e "checkpoints/$run" ]; do
  number=$((number + 1)) run=demo-$number
done
[ "$number" -eq 1 ] || echo "checkpoints/demo exists already; this run is called $run"

# The processes of the cluster end when this script ends, for whatever reason.
# The path of a socket has at most 107 bytes.
temporary=${TMPDIR:-/tmp}
[ ${#temporary} -le 70 ] || temporary=/tmp
sockets=$(mktemp -d "$temporary/ress-demo-XXXXXX")
logs=checkpoints/$run
pids=()
finish() {
  trap - EXIT INT TERM
  if [ ${#pids[@]} -gt 0 ]; then
    kill "${pids[@]}" 2>/dev/null || true
    for _ in $(seq 50); do
      kill -0 "${pids[@]}" 2>/dev/null || break
      sleep 0.1
    done
    kill -KILL "${pids[@]}" 2>/dev/null || true
  fi
  rm -rf "$sockets"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

address=ipc://$sockets/coordinator
threads=$(($(nproc) / 2))
[ "$threads" -ge 1 ] || threads=1
mkdir -p "$logs"

say "Starting a coordinator and two workers (logs in $logs)"
"$ress" coordinator --listen "$address" --store "$logs/coordinator.db" >"$logs/coordinator.log" 2>&1 &
pids+=($!)
for worker in 1 2; do
  "$ress" worker --coordinator "$address" --name "worker-$worker" --threads "$threads" >"$logs/worker-$worker.log" 2>&1 &
  pids+=($!)
done
sleep 0.5
for pid in "${pids[@]}"; do
  kill -0 "$pid" 2>/dev/null && continue
  echo "a process ended right after its start; the logs:" >&2
  tail -n 5 "$logs"/*.log >&2
  exit 1
done

say "Training configs/demo.yaml"
"$ress" train configs/demo.yaml --coordinator "$address" --set run="$run" --set data.path=data/demo.h5

say "A sample of generated text"
"$ress" generate "checkpoints/$run" --prompt "And God said" --tokens 400 || exit 1

say "Checkpoints of the run"
"$ress" checkpoint list "checkpoints/$run"

cat <<TEXT

Try next ($ress is the program):
  $ress generate checkpoints/$run --prompt 'In the beginning' --tokens 1000 --temperature 0.6
  $ress evaluate checkpoints/$run
  $ress checkpoint show checkpoints/$run --tensors
  $ress train configs/demo.yaml --resume --set run=$run --set training.steps=1600
  h5ls -r checkpoints/$run/step-*/model.h5        (package hdf5-tools)
TEXT
