#!/bin/bash
# `make paper`: installs what is missing, builds, checks the generators, and runs Benchmarks/paper/paper.py. DATA is the folder of the published
# sets; without it the experiments that make their own data are run.
set -euo pipefail
cd "$(dirname "$0")/.."

data=$1
shift
if [ -n "$data" ] && [ ! -d "$data" ]; then
  echo "make paper DATA=$data: there is no such folder; Benchmarks/paper/README.md says what it holds, and where that comes from" >&2
  exit 2
fi
scripts/install-packages.sh --paper
python3 Benchmarks/paper/check.py
scripts/moved.sh .build
swift build -c release --product ress
exec python3 Benchmarks/paper/paper.py ${data:+--data "$data"} "$@"
