#!/bin/bash
# `make paper`: installs missing packages, builds, checks the generators, and runs Benchmarks/paper/paper.py. DATA is the folder of the published
# datasets; without it only the experiments that generate their own data run.
set -euo pipefail
cd "$(dirname "$0")/.."

data=$1
shift
if [ -n "$data" ] && [ ! -d "$data" ]; then
  echo "make paper DATA=$data: there is no such folder; Benchmarks/paper/README.md lists its contents and where to get them" >&2
  exit 2
fi
scripts/install-packages.sh --paper
python3 Benchmarks/paper/check.py
scripts/moved.sh .build
swift build -c release --product ress
exec python3 Benchmarks/paper/paper.py ${data:+--data "$data"} "$@"
